using FusedAttention.Cuda.Launching;
using FusedAttention.Cuda.Planning;
using FusedAttention.Devices;
using FusedAttention.Problems;

namespace FusedAttention.Cuda.Tests.Assembly;

/// <summary>The library's own functions, and what some of them are joined to, in kernels.</summary>
internal static class ReadyMadeFunctions
{
    public const int Heads = 8;

    private static readonly ScoreTable PerHead = new(Enumerable.Range(1, Heads).Select(static h => 1f / h).ToArray());

    public static readonly AttentionOptions[] All =
    [
        Scores(new LinearBias(PerHead)),
        Scores(new T5RelativeBias(new float[32 * Heads], Heads, isBidirectional: true)),
        Scores(new HeadTemperature(PerHead)),
        Scores(new LogNScaling(512)),
        Scores(new ScalableSoftmax(PerHead, new ScoreTable([100f]))),
        Scores(new GridAlibi(PerHead, 32, isEuclidean: true)),
        Scores(new TanhCap(50)),
        Scores(new LinearBias(PerHead).Then(new TanhCap(50))),
        Masks(new DocumentMask(new int[100])),
        Masks(new PrefixMask(new ScoreTable([10]))),
        Masks(new DilatedWindow(20, 3, isTwoSided: true)),
        Masks(new GlobalLocalMask(4, 100)),
        Scores(new LinearBias(PerHead)) with { MaskFunction = MaskFunction.Of(new DocumentMask(new int[100])) },
    ];

    /// <summary>Functions of which a tile has numbers where each query head has keys and values of its own.</summary>
    public static readonly AttentionOptions[] WithTileNumbers =
    [
        Scores(new T5RelativeBias(new float[32 * Heads], Heads, isBidirectional: true)),
        Scores(new GridAlibi(PerHead, 32)),
        Scores(new GridAlibi(PerHead, 33, isEuclidean: true)),
        Scores(new T5RelativeBias(new float[32 * Heads], Heads).Then(new LinearBias(PerHead))),
        Scores(new T5RelativeBias(new float[32 * Heads], Heads)) with { MaskFunction = MaskFunction.Of(new DocumentMask(new int[100])) },
    ];

    /// <summary>The kernel of a causal call.</summary>
    public static KernelFunction KernelOf(AttentionOptions options, (int Key, int Value) dims, CudaDeviceDescription device, PrefillForm form, int queries, int keyValueHeads = 2)
    {
        CudaPlan plan = Plan(options, dims, device, form, queries, keyValueHeads);
        return plan.FunctionAt(plan.MapLaunches);
    }

    /// <summary>What a causal prefill has asked ahead which tiles are seen; null without a mask function.</summary>
    public static KernelFunction? MapOf(AttentionOptions options, (int Key, int Value) dims, CudaDeviceDescription device, PrefillForm form)
    {
        CudaPlan plan = Plan(options, dims, device, form, queries: 100, keyValueHeads: 2);
        return plan.MapLaunches > 0 ? plan.FunctionAt(0) : null;
    }

    /// <summary>Blocks that are to fit a multiprocessor.</summary>
    public static int BlocksOf(AttentionOptions options, (int Key, int Value) dims, CudaDeviceDescription device, PrefillForm form, int queries) => queries == 1 ? TileTable.Decode(dims.Key, dims.Value, device, features: CallFeatures.ScoreFunction)!.Value.Blocks
        : form == PrefillForm.Warpgroups ? 1 : TileTable.Prefill(dims.Key, dims.Value, device, CallFeatures.ScoreFunction, score: options.ScoreFunction?.Graph.Form)!.Value.Blocks;

    private static CudaPlan Plan(AttentionOptions options, (int Key, int Value) dims, CudaDeviceDescription device, PrefillForm form, int queries, int keyValueHeads) => CudaPlan.Of(
        ShapeProblem.Dense<Half, Half>(new(1, queries, 100, Heads, keyValueHeads, dims.Key, dims.Value), options with { Mask = AttentionMask.Causal }, OperandKinds.LogSumExp), device, isAligned: true, form: form, copies: DecodeCopies.Async);

    private static AttentionOptions Scores<TFunction>(TFunction function)
        where TFunction : struct, IScoreFunction
        => new() { ScoreFunction = ScoreFunction.Of(function) };

    private static AttentionOptions Masks<TFunction>(TFunction function)
        where TFunction : struct, IMaskFunction
        => new() { MaskFunction = MaskFunction.Of(function) };
}
