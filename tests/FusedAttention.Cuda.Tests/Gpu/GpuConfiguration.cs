namespace FusedAttention.Cuda.Tests.Gpu;

/// <summary>What kernels are specialised for, chosen for many problems at once: each combination is machine code to make, half a second of a processor.</summary>
/// <param name="number">Decides everything.</param>
internal sealed class GpuConfiguration(int number)
{
    private static readonly (AttentionElementType Query, AttentionElementType KeyValue)[] Types =
    [
        (AttentionElementType.Float16, AttentionElementType.Float16),
        (AttentionElementType.BFloat16, AttentionElementType.BFloat16),
        (AttentionElementType.Float16, AttentionElementType.Float16),
        (AttentionElementType.BFloat16, AttentionElementType.BFloat16),
        (AttentionElementType.Float32, AttentionElementType.Float32),
        (AttentionElementType.Float32, AttentionElementType.Float16),
        (AttentionElementType.Float32, AttentionElementType.BFloat16),
    ];

    private static readonly (int Key, int Value)[] Dims =
        [(64, 64), (128, 128), (16, 16), (40, 40), (72, 72), (80, 80), (96, 96), (192, 128), (256, 256), (576, 512), (64, 128), (24, 16), (1, 1), (3, 5), (33, 65), (100, 100), (128, 64), (112, 112), (512, 512), (8, 8)];

    private static readonly int[] BlockSizes = [1, 3, 16, 64];

    private static readonly TensorOrder[] VectorOrders = [TensorOrder.Contiguous, TensorOrder.HeadMajor, TensorOrder.TokenFirst, TensorOrder.PackedSlice];

    private readonly Random _random = new(number * 7919);
    private Features _features;

    private enum Operand
    {
        None,
        Float32,
        Float16,
        BFloat16,
    }

    /// <summary>The problem of a number, with this configuration.</summary>
    public static (Problem Problem, Arrangement Arrangement, int Shift, ProblemGenerator Generator) Next(int configuration, int seed)
    {
        var choice = new GpuConfiguration(configuration);
        choice.Choose(configuration);
        return choice.Next(seed);
    }

    /// <summary>Types and dimensions go round at different speeds, so that 140 numbers have every pair of them; the rest is chosen at random.</summary>
    private void Choose(int configuration)
    {
        (AttentionElementType query, AttentionElementType keyValue) = Types[configuration % Types.Length];
        (int keyDim, int valueDim) = Dims[configuration % Dims.Length];
        _features = new(
            query, keyValue, keyDim, valueDim, (CallForm)(configuration / 2 % 3), BlockSizes[_random.Next(BlockSizes.Length)],
            HasMask: Chance(5), (Operand)(Chance(3) ? _random.Next(1, 4) : 0), HasAlibi: Chance(4), HasSoftCap: Chance(5), HasSinks: Chance(4), HasLogSumExp: !Chance(3));
    }

    private (Problem Problem, Arrangement Arrangement, int Shift, ProblemGenerator Generator) Next(int seed)
    {
        bool isLarge = seed % 16 == 0;
        var generator = new ProblemGenerator(seed, isLarge)
        {
            Specialisations = [(_features.QueryType, _features.KeyValueType, _features.KeyDim, _features.ValueDim)],
            Form = _features.Form,
            Heads = GpuProblems.Heads,
        };
        Problem problem = generator.WithOptions(generator.NextSizes());
        problem = problem with
        {
            Name = $"seed {seed}",
            BlockSize = _features.BlockSize,
            QueryOffsets = generator.Chance(8) ? [.. problem.QueryLengths.Select(length => generator.Pick<long>([0, -1, -17, 5, 1000, length]))] : null,
            Options = problem.Options with
            {
                AlibiSlopes = !_features.HasAlibi ? default : AlibiSlopes.ForHeads(problem.Heads),
                SoftCap = _features.HasSoftCap ? generator.Pick([0.5f, 5f, 30f, 50f]) : 0,
                SinkLogits = !_features.HasSinks ? default : [.. generator.Numbers(problem.Heads, 3, AttentionElementType.Float32).Select((x, h) => h % 5 == 3 ? float.NegativeInfinity : x)],
            },
        };
        if (_features.HasMask) problem = generator.WithMask(problem);
        if (_features.Bias != Operand.None) problem = generator.WithBias(problem, TypeOf(_features.Bias));
        Arrangement arrangement = generator.NextArrangement() with { WantsLogSumExp = _features.HasLogSumExp };
        if (!generator.Chance(4))
            arrangement = arrangement with { Query = generator.Pick(VectorOrders), Key = generator.Pick(VectorOrders), Value = generator.Pick(VectorOrders), Output = generator.Pick(VectorOrders) };
        return (problem, arrangement, generator.Chance(6) ? generator.Pick([1, 2, 4, 7]) : 0, generator);
    }

    private static AttentionElementType TypeOf(Operand operand) => operand switch
    {
        Operand.Float16 => AttentionElementType.Float16,
        Operand.BFloat16 => AttentionElementType.BFloat16,
        _ => AttentionElementType.Float32,
    };

    private bool Chance(int n) => _random.Next(n) == 0;

    private readonly record struct Features(
        AttentionElementType QueryType, AttentionElementType KeyValueType, int KeyDim, int ValueDim, CallForm Form, int BlockSize,
        bool HasMask, Operand Bias, bool HasAlibi, bool HasSoftCap, bool HasSinks, bool HasLogSumExp);
}
