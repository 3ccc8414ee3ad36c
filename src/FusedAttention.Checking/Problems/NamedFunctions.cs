using System.Runtime.CompilerServices;

namespace FusedAttention.Checking.Problems;

/// <summary>Functions by name, with numbers of usual size: what is timed and explained without a model. <c>alibi</c> is the built-in one, to time <c>linear</c> beside, which says the same as a function.</summary>
public static class NamedFunctions
{
    /// <summary>Documents of a sequence that the document mask has.</summary>
    private const int Documents = 8;

    /// <summary>All names.</summary>
    public static IReadOnlyList<string> Names { get; } =
        ["alibi", "linear", "t5", "temperature", "logn", "ssmax", "alibi2d", "tanh_cap", "document", "prefix_lm", "dilated", "global_local"];

    /// <summary>The options with the functions that are named.</summary>
    /// <param name="options">The options.</param>
    /// <param name="names">Names joined by <c>+</c>: score functions from left to right, mask functions all of which must keep a key; null for none.</param>
    /// <param name="shape">The call.</param>
    /// <exception cref="UsageException">There is no such name.</exception>
    public static AttentionOptions Add(AttentionOptions options, string? names, CallShape shape) =>
        (names?.Split('+') ?? []).Aggregate(options, (all, name) => name switch
        {
            "alibi" => all with { AlibiSlopes = AlibiSlopes.ForHeads(shape.QueryHeads) },
            "linear" => Then(all, new LinearBias(new(AlibiSlopes.ForHeads(shape.QueryHeads).AsSpan()))),
            "t5" => Then(all, new T5RelativeBias(PerHead(shape, 32), shape.QueryHeads)),
            "temperature" => Then(all, new HeadTemperature(new(PerHead(shape, 1)))),
            "logn" => Then(all, new LogNScaling(512)),
            "ssmax" => Then(all, new ScalableSoftmax(new(PerHead(shape, 1)), new([.. Enumerable.Repeat(shape.KeyLength, shape.Batch)]))),
            "alibi2d" => Then(all, new GridAlibi(new(PerHead(shape, 1)), 32)),
            "tanh_cap" => Then(all, new TanhCap(30)),
            "document" => And(all, new DocumentMask(DocumentsOf(shape, shape.QueryLength, shape.KeyLength - shape.QueryLength), DocumentsOf(shape, shape.KeyLength, 0))),
            "prefix_lm" => And(all, new PrefixMask(new([.. Enumerable.Repeat(shape.KeyLength / 4, shape.Batch)]))),
            "dilated" => And(all, new DilatedWindow(64, 4)),
            "global_local" => And(all, new GlobalLocalMask(16, 256)),
            _ => throw new UsageException($"There is no function '{name}'; expected names of {string.Join(", ", Names)}, joined by +."),
        });

    private static AttentionOptions Then<TFunction>(AttentionOptions options, TFunction function)
        where TFunction : struct, IScoreFunction
    {
        var next = ScoreFunction.Of(function);
        return options with { ScoreFunction = options.ScoreFunction?.Then(next) ?? next };
    }

    private static AttentionOptions And<TFunction>(AttentionOptions options, TFunction function)
        where TFunction : struct, IMaskFunction
    {
        var next = MaskFunction.Of(function);
        return options with { MaskFunction = options.MaskFunction?.And(next) ?? next };
    }

    private static float[] PerHead(CallShape shape, int rows) => [.. Enumerable.Range(0, rows * shape.QueryHeads).Select(static i => 0.5f + (i % 7 / 8f))];

    /// <summary>The document of each token of each sequence, whose first one stands at <paramref name="offset"/> on the key axis.</summary>
    private static ScoreTable DocumentsOf(CallShape shape, int tokens, int offset)
    {
        int each = Math.Max(1, (shape.KeyLength + Documents - 1) / Documents);
        return new([.. Enumerable.Range(0, shape.Batch * tokens).Select(i => Math.Max(0, (i % tokens) + offset) / each)], shape.Batch, tokens);
    }
}

/// <summary><c>s - slope[head] |p - j|</c>, which is what ALiBi is.</summary>
internal readonly struct LinearBias(ScoreTable slopes) : IScoreFunction
{
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public T Score<T>(T score, in ScoreContext<T> at)
        where T : struct, IScoreValue<T>
        => score - (slopes.At(at.Head) * T.Abs(at.Position - at.Key));
}
