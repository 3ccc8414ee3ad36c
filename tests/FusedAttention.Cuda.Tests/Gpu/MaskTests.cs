using FusedAttention.Devices;
using Xunit;

namespace FusedAttention.Cuda.Tests.Gpu;

/// <summary>Boolean masks with a shape: whole tiles of keys that a row, a warp or a block does not see, in rows that begin at multiples of a vector and in such that do not.</summary>
public abstract class MaskTests
{
    private protected MaskTests(TestDevice device) => Problems = new(device);

    private protected GpuProblems Problems { get; }

    private static readonly (int KeyDim, int ValueDim)[] Dims = [(64, 64), (128, 128), (256, 256), (192, 128), (16, 16), (80, 80)];

    private static readonly (string Name, Func<int, int, int, int, bool> Sees)[] Patterns =
    [
        ("documents of 48", static (_, q, k, _) => q / 48 == k / 48),
        ("one key", static (head, _, k, keys) => k == (head * 131 % keys)),
        ("every other tile of 64", static (_, _, k, _) => k / 64 % 2 == 1),
        ("nothing for some rows", static (_, q, k, _) => q % 3 != 0 && (q + k) % 5 != 0),
        ("the last key only", static (_, _, k, keys) => k == keys - 1),
        ("random", static (head, q, k, _) => (((head * 7919) + (q * 104729) + (k * 1299709)) % 1009) % 3 != 0),
        ("a band", static (_, q, k, _) => Math.Abs(q - k) < 20),
        ("nothing at all", static (_, _, _, _) => false),
    ];

    /// <summary>By one number, so that any share of them is a mixture: dimensions, pattern, keys, heads of the mask, what else scores go through.</summary>
    [Fact]
    public void Every_pattern_is_right() => Problems.ForEach(Enumerable.Range(0, 96), (number, stream) =>
    {
        (int keyDim, int valueDim) = Dims[number % Dims.Length];
        Problem problem = ProblemOf(Patterns[number / 3 % Patterns.Length], keyDim, valueDim, queries: 130, keys: number % 5 < 2 ? 333 : 384, hasHeads: number % 4 == 0, number);
        using GpuCaller prefill = new(stream.Device, AttentionKernel.Prefill, stream), chosen = new(stream.Device, null, stream);
        Solution solution = RowByRow.Solve(problem);
        foreach (GpuCaller caller in (GpuCaller[])[prefill, chosen])
            if (GpuProblems.TryRun(problem, null, caller) is { } result) GpuProblems.AssertClose(result, problem, solution, caller.Forced);
    });

    /// <summary>Tiles that are passed over, seen whole or by a part of their rows go different ways; which one a tile goes is a matter of all rows of a block, and does not show in the bits of one.</summary>
    [Fact]
    public void Masks_of_other_rows_do_not_change_a_bit() => Problems.ForEach(Enumerable.Range(0, 48), (number, stream) =>
    {
        (int keyDim, int valueDim) = Dims[number % Dims.Length];
        (string name, Func<int, int, int, int, bool> sees) = Patterns[number / 3 % Patterns.Length];
        using var caller = new GpuCaller(stream.Device, AttentionKernel.Prefill, stream);
        Func<int, int, int, int, bool>[] others = [static (_, _, _, _) => true, static (_, _, _, _) => false, static (head, q, k, _) => (head + q + k) % 7 == 0, static (_, _, k, _) => k < 64];
        Problem problem = ProblemOf((name, sees), keyDim, valueDim, queries: 130, keys: 333, hasHeads: true, number);
        CallResult expected = GpuProblems.Run(problem, null, caller);
        foreach (Func<int, int, int, int, bool> other in others)
        {
            Problem mixed = ProblemOf((name, (head, q, k, keys) => (q % 5 == 2 ? sees : other)(head, q, k, keys)), keyDim, valueDim, queries: 130, keys: 333, hasHeads: true, number);
            CallResult actual = GpuProblems.Run(mixed, null, caller);
            BiasTests.AssertSameRows(expected, actual, problem, Enumerable.Range(0, 130).Where(static q => q % 5 == 2));
        }
    });

    private protected static Problem ProblemOf((string Name, Func<int, int, int, int, bool> Sees) pattern, int keyDim, int valueDim, int queries, int keys, bool hasHeads, int number)
    {
        const int Heads = 2;
        int maskHeads = hasHeads ? Heads : 1;
        bool[] mask = [.. Enumerable.Range(0, maskHeads * queries * keys).Select(i => pattern.Sees(i / (queries * keys), i / keys % queries, i % keys, keys))];
        return new ProblemGenerator(number).Fill(new Problem
        {
            Name = pattern.Name,
            Form = CallForm.Dense,
            QueryType = number % 2 == 0 ? AttentionElementType.Float16 : AttentionElementType.BFloat16,
            KeyValueType = number % 2 == 0 ? AttentionElementType.Float16 : AttentionElementType.BFloat16,
            Heads = Heads,
            KeyValueHeads = number % 3 == 0 ? Heads : 1,
            KeyDim = keyDim,
            ValueDim = valueDim,
            QueryLengths = [queries],
            KeyLengths = [keys],
            KeyCapacity = keys,
            Query = [],
            Key = [],
            Value = [],
            Mask = new(mask, 1, maskHeads, queries, keys),
            Options = new AttentionOptions
            {
                Mask = number % 7 is 3 or 6 ? AttentionMask.Causal : AttentionMask.Full,
                AlibiSlopes = number % 5 == 4 ? AlibiSlopes.ForHeads(Heads) : default,
                SoftCap = number % 11 == 3 ? 20 : 0,
            },
        });
    }
}
