using System.Collections.Immutable;

namespace FusedAttention.Testing;

/// <summary>Random problems and arrangements, each a function of its seed alone.</summary>
/// <param name="seed">Decides everything.</param>
/// <param name="isLarge">Whether every problem has enough work for several threads and several tiles; too much for many oracle runs.</param>
internal sealed class ProblemGenerator(int seed, bool isLarge = false)
{
    /// <summary>Lengths at and around every tile edge that a kernel may have.</summary>
    private static readonly int[] Lengths = [1, 2, 3, 5, 7, 15, 16, 17, 31, 32, 33, 48, 63, 64, 65, 96, 127, 128, 129, 255, 256, 257];

    private static readonly int[] Dims = [1, 2, 3, 4, 5, 7, 8, 9, 12, 15, 16, 17, 20, 24, 31, 32, 33, 40, 47, 48, 63, 64, 64, 65, 72, 80, 96, 100, 128, 128, 256];

    private static readonly (int Heads, int KeyValueHeads)[] HeadCounts = [(1, 1), (2, 2), (3, 3), (2, 1), (3, 1), (4, 2), (6, 2), (8, 1), (8, 8), (9, 3), (16, 2), (71, 1)];

    private static readonly int[] BlockSizes = [1, 2, 3, 5, 8, 16, 17, 32, 64, 100, 256];

    private static readonly (AttentionElementType Query, AttentionElementType KeyValue)[] Types =
    [
        (AttentionElementType.Float32, AttentionElementType.Float32),
        (AttentionElementType.Float32, AttentionElementType.Float16),
        (AttentionElementType.Float32, AttentionElementType.BFloat16),
        (AttentionElementType.Float16, AttentionElementType.Float16),
        (AttentionElementType.BFloat16, AttentionElementType.BFloat16),
    ];

    private readonly Random _random = new(seed);

    /// <summary>Element types and dimensions to choose from, where each combination costs a compilation; null for all.</summary>
    public (AttentionElementType Query, AttentionElementType KeyValue, int KeyDim, int ValueDim)[]? Specialisations { get; init; }

    /// <summary>Query and key/value heads to choose from.</summary>
    public (int Heads, int KeyValueHeads)[] Heads { get; init; } = HeadCounts;

    /// <summary>The only form of call; null for all.</summary>
    public CallForm? Form { get; init; }

    /// <summary>The most multiply-adds of a problem.</summary>
    public long MostWork { get; init; } = long.MaxValue;

    /// <summary>A problem with a random choice of everything.</summary>
    /// <param name="allowsOperands">Whether masks, biases and per-sequence offsets may occur.</param>
    public Problem NextProblem(bool allowsOperands = true)
    {
        Problem problem = WithOptions(NextSizes());
        return allowsOperands ? WithOperands(problem) : problem;
    }

    /// <summary>A problem with keys and values of 8 bits.</summary>
    /// <param name="type">Of keys and values; null for a random one.</param>
    public Problem NextEightBitProblem(AttentionElementType? type = null)
    {
        Problem problem = NextProblem();
        return WithEightBits(problem with { QueryType = Pick(Elements.Wide) }, type ?? Pick([AttentionElementType.Int8, AttentionElementType.Float8E4M3, AttentionElementType.Q8Block]));
    }

    /// <summary>The problem with keys and values of 8 bits, whose numbers are about as large as they were.</summary>
    public Problem WithEightBits(Problem problem, AttentionElementType type)
    {
        int numbers = Elements.Numbers(type);
        problem = Fill(problem with
        {
            KeyValueType = type,
            KeyDim = (problem.KeyDim + numbers - 1) / numbers * numbers,
            ValueDim = (problem.ValueDim + numbers - 1) / numbers * numbers,
        });
        bool isFloat = type == AttentionElementType.Float8E4M3;
        ScalePattern[] patterns = [
            ScalePattern.One, ScalePattern.PerHead, ScalePattern.PerToken, ScalePattern.PerTokenAndHead, ScalePattern.PerTokenAndHead,
            problem.Form == CallForm.Dense ? ScalePattern.PerSequenceAndHead : ScalePattern.PerTokenAndHead, isFloat ? ScalePattern.None : ScalePattern.PerHead];
        (ScalePattern keys, ScalePattern values) = numbers > 1 ? (ScalePattern.None, ScalePattern.None) : (Pick(patterns), Pick(patterns));
        (float amplitude, float scale) = isFloat ? (1f, 1f) : (40f, 0.025f);
        float valueScale = Pick([1f, 1f, 20f]) * scale;
        return problem with
        {
            Key = [.. problem.KeyLengths.Select(n => Numbers(n * problem.KeyValueHeads * problem.KeyDim, amplitude, type))],
            Value = [.. problem.KeyLengths.Select(n => Numbers(n * problem.KeyValueHeads * problem.ValueDim, amplitude, type))],
            KeyScalePattern = keys,
            ValueScalePattern = values,
            KeyScales = Scales(problem, keys, problem.KeyDim / numbers, scale),
            ValueScales = Scales(problem, values, problem.ValueDim / numbers, valueScale),
        };
    }

    public Arrangement NextArrangement(Placement placement = Placement.Margins) => new()
    {
        Query = Pick(Enum.GetValues<TensorOrder>()),
        Key = Pick(Enum.GetValues<TensorOrder>()),
        Value = Pick(Enum.GetValues<TensorOrder>()),
        Output = Pick(Enum.GetValues<TensorOrder>()),
        Placement = placement,
        // A Tensor<T> is copied, which hides where its memory ends: only the others where that matters.
        Surface = Pick(placement == Placement.Margins ? Enum.GetValues<Surface>() : [Surface.TensorSpan, Surface.Span, Surface.Pointer]),
        WithoutBatchDimension = Chance(2),
        RowGap = Chance(2) ? 0 : _random.Next(1, 9),
        WantsLogSumExp = !Chance(4),
        BlockSeed = _random.Next(),
        SpareBlocks = _random.Next(4),
        SpareEntries = _random.Next(3),
        PadEntry = Pick([-1, 0, int.MaxValue, int.MinValue]),
    };

    /// <summary>Sizes and numbers: a plain problem without any option.</summary>
    public Problem NextSizes()
    {
        CallForm form = Form ?? Pick(Enum.GetValues<CallForm>());
        (AttentionElementType queryType, AttentionElementType keyValueType) = Pick(Types);
        // Most problems are small and many; one in ten is large enough for several tiles in every direction.
        (long least, long most) = isLarge ? (4_000_000, 40_000_000) : (0, Chance(10) ? 8_000_000 : 1_200_000);
        while (true)
        {
            (int heads, int keyValueHeads) = Pick(Heads);
            int keyDim = Pick(Dims);
            int valueDim = Chance(5) ? Pick(Dims) : keyDim;
            if (Chance(40)) (keyDim, valueDim) = (576, 512);
            if (Specialisations is not null) (queryType, keyValueType, keyDim, valueDim) = Pick(Specialisations);
            int sequences = _random.Next(1, 5);
            var queryLengths = new int[sequences];
            var keyLengths = new int[sequences];
            bool decodes = Chance(4);
            for (int s = 0; s < sequences; s++)
            {
                queryLengths[s] = decodes ? 1 : Chance(14) ? 0 : Pick(Lengths);
                keyLengths[s] = Chance(16) ? 0 : decodes && Chance(2) ? Pick([_random.Next(1, 700), _random.Next(400, 3000), 511, 512, 513, 1024, 1025]) : Chance(3) ? queryLengths[s] : Pick(Lengths);
            }

            int capacity = 0;
            if (form == CallForm.Dense)
            {
                Array.Fill(queryLengths, queryLengths[0]);
                capacity = keyLengths.Max();
                if (Chance(2)) Array.Fill(keyLengths, capacity);
                else capacity += _random.Next(6);
            }

            long work = 0;
            for (int s = 0; s < sequences; s++) work += (long)queryLengths[s] * keyLengths[s] * heads * (keyDim + valueDim);
            if (work < least || work > Math.Min(most, MostWork)) continue;
            return Fill(new Problem
            {
                Name = $"seed {seed}",
                Form = form,
                QueryType = queryType,
                KeyValueType = keyValueType,
                Heads = heads,
                KeyValueHeads = keyValueHeads,
                KeyDim = keyDim,
                ValueDim = valueDim,
                QueryLengths = queryLengths,
                KeyLengths = keyLengths,
                KeyCapacity = capacity,
                PassesKeyLengths = form == CallForm.Dense && (keyLengths.Any(n => n != capacity) || Chance(4)),
                BlockSize = Pick(BlockSizes),
                Query = [],
                Key = [],
                Value = [],
            });
        }
    }

    /// <summary>Random numbers for queries, keys and values, rounded to their types.</summary>
    public Problem Fill(Problem problem)
    {
        float amplitude = Pick([0.3f, 1f, 1f, 2f, 5f]);
        float valueAmplitude = Pick([1f, 1f, 20f]);
        int kv = problem.KeyValueHeads;
        return problem with
        {
            Query = [.. problem.QueryLengths.Select(n => Numbers(n * problem.Heads * problem.KeyDim, amplitude, problem.QueryType))],
            Key = [.. problem.KeyLengths.Select(n => Numbers(n * kv * problem.KeyDim, 1, problem.KeyValueType))],
            Value = [.. problem.KeyLengths.Select(n => Numbers(n * kv * problem.ValueDim, valueAmplitude, problem.KeyValueType))],
        };
    }

    public Problem WithOptions(Problem problem)
    {
        AttentionMask mask = _random.Next(7) switch
        {
            0 or 1 => AttentionMask.Full,
            2 or 3 => AttentionMask.Causal,
            4 => AttentionMask.CausalWindow(Reach()),
            5 => AttentionMask.Window(Chance(3) ? null : Reach(), Chance(3) ? null : Reach()),
            _ => AttentionMask.Window(Reach(), Reach()).AndCausal(),
        };
        return problem with
        {
            Options = new AttentionOptions
            {
                Mask = mask,
                Alignment = Chance(2) ? AttentionAlignment.BottomRight : AttentionAlignment.TopLeft,
                Scale = Chance(3) ? Pick([0.01f, 0.125f, 0.3f, 1f]) : null,
                SoftCap = Chance(6) ? Pick([0.5f, 5f, 30f, 50f]) : 0,
                AlibiSlopes = !Chance(5) ? default : Chance(2) ? AlibiSlopes.ForHeads(problem.Heads) : [.. Numbers(problem.Heads, 0.5f, AttentionElementType.Float32)],
                SinkLogits = Chance(6) ? Sinks(problem.Heads) : default,
                QueryOffset = Chance(8) ? NextOffset(problem) : null,
                RowInvariant = Chance(4),
            },
            Execution = new CpuExecution { MaxDegreeOfParallelism = Pick([-1, 1, 2, 3]) },
        };
    }

    public Problem WithOperands(Problem problem)
    {
        if (Chance(8)) problem = problem with { QueryOffsets = [.. problem.QueryLengths.Select(_ => NextOffset(problem))] };
        if (Chance(6)) problem = WithMask(problem);
        return Chance(5) ? WithBias(problem, Pick(Elements.Wide)) : problem;
    }

    public Problem WithMask(Problem problem) => problem with { Mask = NextBroadcast(problem, _ => !Chance(3)) };

    public Problem WithBias(Problem problem, AttentionElementType type)
    {
        int style = _random.Next(4);
        return problem with
        {
            BiasType = type,
            Bias = NextBroadcast(problem, _ => style switch
            {
                1 when Chance(4) => float.NegativeInfinity,
                2 when Chance(2) => Elements.FiniteMinimum(type),
                3 => Elements.FiniteMinimum(type),
                _ => Numbers(1, 2, type)[0],
            }),
        };
    }

    public T Pick<T>(T[] choices) => choices[_random.Next(choices.Length)];

    /// <summary>True once in <paramref name="n"/> times.</summary>
    public bool Chance(int n) => _random.Next(n) == 0;

    public int Next(int from, int to) => _random.Next(from, to);

    /// <summary>Numbers of roughly normal distribution, rounded to an element type.</summary>
    public float[] Numbers(int count, float amplitude, AttentionElementType type)
    {
        var numbers = new float[count];
        for (int i = 0; i < count; i++)
        {
            double sum = _random.NextDouble() + _random.NextDouble() + _random.NextDouble() + _random.NextDouble() - 2;
            numbers[i] = Elements.Round(type, (float)(sum * 1.7 * amplitude));
        }

        return numbers;
    }

    /// <summary>Scales of one size, some of them 0: [token, kvHead], or [token, kvHead, block] and rounded to binary16 where there are blocks.</summary>
    private float[][]? Scales(Problem problem, ScalePattern pattern, int blocks, float scale)
    {
        bool hasBlocks = problem.KeyValueType == AttentionElementType.Q8Block;
        if (pattern == ScalePattern.None && !hasBlocks) return null;
        int heads = problem.KeyValueHeads;
        float[] perHead = [.. Enumerable.Range(0, heads).Select(_ => Next())];
        return [.. problem.KeyLengths.Select(keys =>
        {
            float[] own = [.. Enumerable.Range(0, heads).Select(_ => Next())];
            float[] perToken = [.. Enumerable.Range(0, keys).Select(_ => Next())];
            if (hasBlocks) return [.. Enumerable.Range(0, keys * heads * blocks).Select(_ => (float)(Half)Next())];
            float[] scales = new float[keys * heads];
            for (int i = 0; i < scales.Length; i++)
            {
                scales[i] = pattern switch
                {
                    ScalePattern.One => perHead[0],
                    ScalePattern.PerHead => perHead[i % heads],
                    ScalePattern.PerToken => perToken[i / heads],
                    ScalePattern.PerSequenceAndHead => own[i % heads],
                    _ => Next(),
                };
            }

            return scales;
        })];

        float Next() => Chance(25) ? 0 : scale * (float)(0.5 + _random.NextDouble());
    }

    private int Reach() => Pick([0, 1, 2, 7, 15, 16, 31, 64, 100, 300]);

    private ImmutableArray<float> Sinks(int heads)
    {
        float[] sinks = Numbers(heads, 3, AttentionElementType.Float32);
        if (Chance(3)) sinks[_random.Next(heads)] = float.NegativeInfinity;
        return [.. sinks];
    }

    /// <summary>Before the first key, within the keys, and far beyond the last.</summary>
    private long NextOffset(Problem problem)
        => Pick([0, -1, -17, -300, 1, 5, 40, problem.KeyLengths.DefaultIfEmpty(0).Max(), 1000, _random.Next(-64, 300)]);

    private Broadcast<T> NextBroadcast<T>(Problem problem, Func<int, T> next)
    {
        bool isDense = problem.Form == CallForm.Dense;
        int batch = isDense && Chance(2) ? problem.Sequences : 1;
        int heads = Chance(2) ? problem.Heads : 1;
        int rows = isDense ? problem.QueryLengths[0] : problem.TotalQueries;
        int queries = Chance(4) ? 1 : rows;
        // A packed mask may be wider than the longest sequence; a dense one has the width of the key tensor.
        int keys = isDense ? problem.KeyCapacity : problem.KeyLengths.Max() + _random.Next(3);
        var values = new T[batch * heads * queries * keys];
        for (int i = 0; i < values.Length; i++) values[i] = next(i);
        int smallest = batch > 1 ? 4 : heads > 1 ? 3 : queries != 1 ? 2 : 1;
        return new(values, batch, heads, queries, keys) { Rank = _random.Next(smallest, isDense ? 5 : 4) };
    }
}
