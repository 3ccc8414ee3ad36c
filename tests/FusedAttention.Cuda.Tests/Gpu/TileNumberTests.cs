using System.Runtime.CompilerServices;
using FusedAttention.Devices;
using Xunit;

namespace FusedAttention.Cuda.Tests.Gpu;

/// <summary>Functions of which prefills compute parts once a tile, a column or a diagonal: beside other features, at the ends of items and sequences, at positions before the first key, and their bits.</summary>
public abstract class TileNumberTests
{
    private static readonly (string Name, Func<int, int, ScoreFunction> Of)[] Functions =
    [
        ("T5", static (heads, _) => ScoreFunction.Of(Relative(heads))),
        ("grid", static (heads, _) => ScoreFunction.Of(new GridAlibi(new ScoreTable([.. Slopes(heads)]), 7, isEuclidean: true))),
        ("two of each", static (heads, keys) => ScoreFunction.Of(new Blend(new ScoreTable([.. Enumerable.Range(0, heads * keys).Select(static i => (i * 7919 % 1009 / 500f) - 1)], heads, keys)))),
        ("T5, capped, and a bias by distance", static (heads, _) => ScoreFunction.Of(Relative(heads).Then(new TanhCap(3)).Then(new LinearBias(new ScoreTable([.. Slopes(heads)]))))),
        ("excluded by a number", static (_, _) => ScoreFunction.Of(default(NearOrFar))),
        ("no score", static (heads, _) => ScoreFunction.Of(new ByDistanceAlone(new ScoreTable([.. Slopes(heads)])))),
    ];

    private static readonly (string Name, Func<AttentionOptions, AttentionOptions> Change)[] Beside =
    [
        ("", static options => options),
        ("causal", static options => options with { Mask = AttentionMask.Causal }),
        ("window, sinks", static options => options with { Mask = AttentionMask.Window(90, 20), SinkLogits = [0.5f, -1, 2, 0] }),
        ("top left, soft cap", static options => options with { Mask = AttentionMask.Causal, Alignment = AttentionAlignment.TopLeft, SoftCap = 2 }),
        ("ALiBi", static options => options with { Mask = AttentionMask.Causal, AlibiSlopes = AlibiSlopes.ForHeads(Heads) }),
        ("mask function", static options => options with { MaskFunction = MaskFunction.Of(new GlobalLocalMask(5, 60).And(new HeadRemainder(2))) }),
    ];

    private const int Heads = 4;

    private protected TileNumberTests(TestDevice device) => Problems = new(device);

    private GpuProblems Problems { get; }

    /// <summary>Names of functions.</summary>
    public static TheoryData<string> Names => [.. Functions.Select(static function => function.Name)];

    /// <summary>Over heads of their own for keys and values, which share what depends on the distance, and over shared ones; each feature beside, in each form of call, at each set of dimensions, though not each with each other.</summary>
    [Theory]
    [MemberData(nameof(Names))]
    public void Results_are_within_the_error_limit_of_the_oracle(string name)
    {
        using CudaStream stream = Problems.Open().CreateStream();
        using GpuCaller caller = new(stream.Device, AttentionKernel.Prefill, stream);
        int number = Array.FindIndex(Functions, function => string.Equals(function.Name, name, StringComparison.Ordinal));
        for (int n = 0; n < Problems.Target.Times(Beside.Length); n++)
        {
            // Where some are left out, other functions have those.
            int beside = (number + n) % Beside.Length;
            (int queries, int keys) = ((int, int)[])[(130, 333), (70, 128), (193, 65), (33, 127), (129, 257), (64, 150)] is { } lengths ? lengths[(beside + number) % lengths.Length] : default;
            Problem problem = Of(number, (CallForm)((beside + number) % 3), (int[])[64, 128, 256, 40] is { } dims ? dims[((2 * number) + beside) % dims.Length] : 0, queries, keys, beside % 3 == 2 ? 2 : Heads);
            problem = problem with { Name = $"{name}, {Beside[beside].Name}", Options = Beside[beside].Change(problem.Options) };
            GpuProblems.AssertClose(GpuProblems.Run(problem, null, caller), problem, RowByRow.Solve(problem), AttentionKernel.Prefill, problem.Name);
        }
    }

    /// <summary>The other form of the prefill takes them beside a mask and a bias.</summary>
    [Theory]
    [MemberData(nameof(Names))]
    public void Masks_and_biases_are_beside_them(string name)
    {
        int number = Array.FindIndex(Functions, function => string.Equals(function.Name, name, StringComparison.Ordinal));
        Problem problem = Of(number, (CallForm)(number % 3), 64, 70, 200, Heads);
        var generator = new ProblemGenerator(number);
        foreach (Problem both in (Problem[])[generator.WithMask(problem), generator.WithBias(problem, AttentionElementType.Float16)])
            GpuProblems.AssertClose(Problems.Run(both, null, AttentionKernel.Prefill), both, RowByRow.Solve(both), AttentionKernel.Prefill, name);
    }

    /// <summary>Query heads that share keys and values have every number of a distance computed for each score, and those that have copies of their own once a tile: where tiles are of the same size, bits are the same.</summary>
    [Theory]
    [MemberData(nameof(Names))]
    public void Bits_are_those_of_numbers_that_each_score_has_computed(string name)
    {
        int number = Array.FindIndex(Functions, function => string.Equals(function.Name, name, StringComparison.Ordinal));
        using var caller = new GpuCaller(Problems.Open(), AttentionKernel.Prefill);
        foreach (int dim in (int[])[128, 256])
        {
            Problem shared = Of(number, CallForm.Packed, dim, 70, 260, 1);
            Problem copied = shared with { KeyValueHeads = Heads, Key = [.. shared.Key.Select(rows => Repeated(rows, dim))], Value = [.. shared.Value.Select(rows => Repeated(rows, dim))] };
            CallResult expected = GpuProblems.Run(shared, null, caller), result = GpuProblems.Run(copied, null, caller);

            // By warps, long functions have tiles of fewer keys up to 192 dimensions, and what is long follows from the heads.
            if (dim > 192 || caller.EntryPoint is not "prefill") result.AssertSameBits(expected, $"{name}, {dim}");
        }
    }

    /// <summary>Where values are looked at one by one, numbers are computed again for one key: what a number excludes may hold anything.</summary>
    [Theory]
    [InlineData(64)]
    [InlineData(128)]
    public void Keys_that_a_number_excludes_may_hold_anything(int dim)
    {
        const int Excluding = 4, Queries = 70, Keys = 200;
        Problem problem = Of(Excluding, CallForm.Dense, dim, Queries, Keys, Heads);
        float[] zero = [.. problem.Value[0]], special = [.. problem.Value[0]];
        int at = ((100 * Heads) + 1) * dim;
        (zero[at], special[at]) = (0, float.NaN);
        CallResult expected = Problems.Run(problem with { Value = [zero] }, null, AttentionKernel.Prefill), result = Problems.Run(problem with { Value = [special] }, null, AttentionKernel.Prefill);
        for (int query = 0; query < Queries; query++)
        {
            bool sees = NearOrFar.Sees(Keys - Queries + query - 100);
            for (int i = 0; i < Heads * dim; i++)
            {
                int n = (query * Heads * dim) + i;
                if (i == dim && sees) Assert.True(float.IsNaN(result.Output[0][n]), $"query {query}");
                else Assert.Equal(BitConverter.SingleToInt32Bits(expected.Output[0][n]), BitConverter.SingleToInt32Bits(result.Output[0][n]));
            }
        }
    }

    private static float[] Repeated(float[] rows, int dim) => [.. rows.Chunk(dim).SelectMany(static row => Enumerable.Repeat(row, Heads).SelectMany(static copy => copy))];

    private static T5RelativeBias Relative(int heads) => new(Enumerable.Range(0, 16 * heads).Select(static i => (i * 7919 % 1009 / 250f) - 2).ToArray(), heads, isBidirectional: true, maxDistance: 40);

    /// <summary>Gentle enough for weights to stay above binary16's smallest normal number, below which they lose bits that limits know nothing of.</summary>
    private static IEnumerable<float> Slopes(int heads) => Enumerable.Range(1, heads).Select(static h => 0.06f / h);

    private static Problem Of(int function, CallForm form, int dim, int queries, int keys, int keyValueHeads) => new ProblemGenerator(function + dim).Fill(new Problem
    {
        Name = Functions[function].Name,
        Form = form,
        QueryType = AttentionElementType.Float16,
        KeyValueType = AttentionElementType.Float16,
        Heads = Heads,
        KeyValueHeads = keyValueHeads,
        KeyDim = dim,
        ValueDim = dim,
        QueryLengths = form == CallForm.Dense ? [queries] : [queries, (queries + 1) / 2, 17],
        KeyLengths = form == CallForm.Dense ? [keys] : [keys, keys / 3, 40],
        KeyCapacity = keys,
        BlockSize = 16,
        Query = [],
        Key = [],
        Value = [],
        Options = new AttentionOptions { ScoreFunction = Functions[function].Of(Heads, keys) },
    });

    /// <summary>Two numbers of the key, of which one asks for the head, and two of the distance, of which one is a factor in a sum.</summary>
    private readonly struct Blend(ScoreTable byKey) : IScoreFunction
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public T Score<T>(T score, in ScoreContext<T> at)
            where T : struct, IScoreValue<T>
        {
            T distance = T.Abs(at.Key - at.Position);
            return (score * T.Exp(distance * -0.01f)) + byKey.At(at.Head, at.Key) - (T.Sqrt(distance) * (at.Head + 0.1f)) + T.Tanh((at.Key % 9) - 4);
        }
    }

    /// <summary>Excludes keys by a number of their distance that is negative infinity.</summary>
    private readonly struct NearOrFar : IScoreFunction
    {
        public static bool Sees(int distance) => Math.Abs(distance) is < 25 or > 49;

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public T Score<T>(T score, in ScoreContext<T> at)
            where T : struct, IScoreValue<T>
        {
            T root = T.Sqrt(T.Abs(at.Position - at.Key));
            return score + T.Select((root < 5f) | (root > 7f), 0f, float.NegativeInfinity);
        }
    }

    /// <summary>Of the distance and the head alone.</summary>
    private readonly struct ByDistanceAlone(ScoreTable slopes) : IScoreFunction
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public T Score<T>(T score, in ScoreContext<T> at)
            where T : struct, IScoreValue<T>
            => T.Exp(T.Abs(at.Key - at.Position) * -0.05f) * slopes.At(at.Head) * 9f;
    }
}
