namespace FusedAttention.Testing;

/// <summary>
/// Calls that have each three choices of different features together in one of them, with one of each other feature beside: forms, masks, biases, options, functions, positions, types, groups. What a kernel leaves out only where two others
/// are there as well, no test of pairs shows.
/// </summary>
internal sealed class FeatureTriples
{
    private const int Heads = 4;

    /// <summary>Places in <see cref="Features"/>.</summary>
    private const int Codes = 2, ScoreFunctions = 10, LogSumExp = 13;

    /// <summary>Before the numbers of tensors are made.</summary>
    private const int Shapes = 3;

    private static readonly (string Name, Func<Problem, Problem> Add)[][] Features =
    [
        [
            ("dense", static problem => problem),
            ("packed", static problem => problem with { Form = CallForm.Packed }),
            ("paged", static problem => problem with { Form = CallForm.Paged }),
        ],
        [
            ("a head each", static problem => problem with { KeyValueHeads = 4 }),
            ("two heads", static problem => problem with { KeyValueHeads = 2 }),
            ("four heads", static problem => problem with { KeyValueHeads = 1 }),
        ],
        [
            ("", static problem => problem),
            ("int8", static problem => problem with { KeyValueType = AttentionElementType.Int8 }),
            ("fp8", static problem => problem with { KeyValueType = AttentionElementType.Float8E4M3 }),
        ],
        [
            ("", static problem => problem),
            ("causal", static problem => With(problem, static options => options with { Mask = AttentionMask.Causal })),
            ("window", static problem => With(problem, static options => options with { Mask = AttentionMask.CausalWindow(150) })),
            ("two-sided window", static problem => With(problem, static options => options with { Mask = AttentionMask.Window(90, 20) })),
        ],
        [
            ("", static problem => problem),
            ("top left", static problem => With(problem, static options => options with { Alignment = AttentionAlignment.TopLeft })),
            ("before the keys", static problem => With(problem, static options => options with { QueryOffset = -20 })),
            ("own offsets", static problem => problem with { QueryOffsets = [.. problem.KeyLengths.Select(static keys => (long)keys / 2)] }),
        ],
        [
            ("", static problem => problem),
            ("bias", static problem => WithBias(problem, AttentionElementType.Float16, 1, Queries(problem))),
            ("bias of keys", static problem => WithBias(problem, AttentionElementType.Float32, 1, 1)),
            ("bias of heads", static problem => WithBias(problem, AttentionElementType.BFloat16, Heads, 1)),
        ],
        [
            ("", static problem => problem),
            ("mask", static problem => WithMask(problem, 1, Queries(problem))),
            ("mask of keys", static problem => WithMask(problem, 1, 1)),
            ("mask of heads", static problem => WithMask(problem, Heads, Queries(problem))),
        ],
        [
            ("", static problem => problem),
            ("ALiBi", static problem => With(problem, static options => options with { AlibiSlopes = AlibiSlopes.ForHeads(Heads) })),
            ("ALiBi of either sign", static problem => With(problem, static options => options with { AlibiSlopes = [-0.05f, 0.3f, 0, 0.01f] })),
        ],
        [("", static problem => problem), ("soft cap", static problem => With(problem, static options => options with { SoftCap = 1.5f }))],
        [("", static problem => problem), ("sinks", static problem => With(problem, static options => options with { SinkLogits = [0.5f, float.NegativeInfinity, 2, 0] }))],
        [
            ("", static problem => problem),
            ("distances", static problem => WithScore(problem, ScoreFunction.Of(new LinearBias(new ScoreTable([0.5f, 0.1f, 0.02f, 0.004f]))))),
            ("log-n", static problem => WithScore(problem, ScoreFunction.Of(new LogNScaling(30)))),
            ("buckets", static problem => WithScore(problem, ScoreFunction.Of(new T5RelativeBias(new ProblemGenerator(3).Numbers(16 * Heads, 1, AttentionElementType.Float32), Heads, isBidirectional: true, 40)))),
            ("cap as a function", static problem => WithScore(problem, ScoreFunction.Of(new TanhCap(2)))),
        ],
        [
            ("", static problem => problem),
            ("global and local", static problem => WithKept(problem, MaskFunction.Of(new GlobalLocalMask(5, 100)))),
            ("dilated", static problem => WithKept(problem, MaskFunction.Of(new DilatedWindow(60, 3, isTwoSided: true)))),
            ("other keys for heads", static problem => WithKept(problem, MaskFunction.Of(new HeadRemainder(3)))),
        ],
        [("", static problem => problem), ("row-invariant", static problem => With(problem, static options => options with { RowInvariant = true }))],
        [("log-sum-exp", static problem => problem), ("", static problem => problem)],
    ];

    private readonly List<int[]> _calls = [];

    /// <param name="hasFunctionsOfCodes">Whether score functions go over keys of 8 bits, which they do on the processor alone.</param>
    public FeatureTriples(bool hasFunctionsOfCodes)
    {
        Choice[][] triples = [.. Triples().Where(triple => hasFunctionsOfCodes || !(Has(triple, Codes) && Has(triple, ScoreFunctions)))];
        HashSet<(Choice, Choice, Choice)> open = [.. triples.Select(static triple => (triple[0], triple[1], triple[2]))];

        // Each call begins with a triple that none has yet, and has of each other feature the choice that makes most new ones with what is there. 80 calls are the least, as many as 5 x 4 x 4 choices need; these are some 160.
        foreach (Choice[] first in triples)
        {
            if (!open.Contains((first[0], first[1], first[2]))) continue;
            List<Choice> call = [.. first];
            for (int n = 0; n < Features.Length; n++)
            {
                int feature = (n + _calls.Count) % Features.Length, from = _calls.Count;
                if (call.Exists(choice => choice.Feature == feature)) continue;
                call.Add(Enumerable.Range(0, Features[feature].Length).Select(i => new Choice(feature, (i + from) % Features[feature].Length))
                    .Where(choice => hasFunctionsOfCodes || choice.Number == 0 || !(feature == Codes ? Has(call, ScoreFunctions) : feature == ScoreFunctions && Has(call, Codes)))
                    .MaxBy(choice => Pairs(call).Count(pair => open.Contains(Sorted(pair.A, pair.B, choice)))));
            }

            call.Sort();
            for (int c = 2; c < call.Count; c++) foreach ((Choice a, Choice b) in Pairs(call[..c])) open.Remove((a, b, call[c]));
            _calls.Add([.. call.Select(static choice => choice.Number)]);
        }
    }

    /// <summary>How many calls there are.</summary>
    public int Count => _calls.Count;

    /// <summary>A call of two sequences, of which the second has a third of the keys.</summary>
    /// <param name="number">Of the call.</param>
    /// <param name="type">Of queries, and of keys and values where they do not have 8 bits.</param>
    /// <param name="keyDim">Of keys.</param>
    /// <param name="valueDim">Of values.</param>
    /// <param name="queries">Rows a head; half as many in the second sequence where that may be.</param>
    /// <param name="keys">At least as many.</param>
    public (Problem Problem, Arrangement Arrangement) Of(int number, AttentionElementType type, int keyDim, int valueDim, int queries, int keys)
    {
        int[] call = _calls[number];
        var problem = new Problem
        {
            Name = $"call {number}: {string.Join(", ", call.Select(static (choice, feature) => Features[feature][choice].Name).Where(static name => name.Length > 0))}",
            Form = CallForm.Dense,
            QueryType = type,
            KeyValueType = type,
            Heads = Heads,
            KeyValueHeads = Heads,
            KeyDim = keyDim,
            ValueDim = valueDim,
            QueryLengths = [queries, queries],
            KeyLengths = [keys, keys / 3],
            KeyCapacity = keys,
            PassesKeyLengths = true,
            BlockSize = number % 2 == 0 ? 16 : 24,
            Query = [],
            Key = [],
            Value = [],
            Options = new AttentionOptions(),
        };
        for (int feature = 0; feature < Shapes; feature++) problem = Features[feature][call[feature]].Add(problem);
        if (problem.Form != CallForm.Dense) problem = problem with { QueryLengths = [queries, (queries + 1) / 2], PassesKeyLengths = false };
        var generator = new ProblemGenerator(number);
        problem = call[Codes] == 0 ? generator.Fill(problem) : generator.WithEightBits(problem, problem.KeyValueType);
        for (int feature = Shapes; feature < Features.Length; feature++) problem = Features[feature][call[feature]].Add(problem);
        return (problem, new Arrangement { WantsLogSumExp = call[LogSumExp] == 0 });
    }

    private static IEnumerable<Choice[]> Triples() =>
        from a in Enumerable.Range(0, Features.Length)
        from b in Enumerable.Range(a + 1, Features.Length - a - 1)
        from c in Enumerable.Range(b + 1, Features.Length - b - 1)
        from i in Enumerable.Range(0, Features[a].Length)
        from j in Enumerable.Range(0, Features[b].Length)
        from k in Enumerable.Range(0, Features[c].Length)
        select new[] { new Choice(a, i), new Choice(b, j), new Choice(c, k) };

    private static IEnumerable<(Choice A, Choice B)> Pairs(List<Choice> choices) => choices.SelectMany((a, i) => choices.Skip(i + 1).Select(b => (a, b)));

    private static (Choice, Choice, Choice) Sorted(Choice a, Choice b, Choice c)
    {
        Choice[] sorted = [a, b, c];
        Array.Sort(sorted);
        return (sorted[0], sorted[1], sorted[2]);
    }

    private static bool Has(IEnumerable<Choice> choices, int feature) => choices.Any(choice => choice.Feature == feature && choice.Number > 0);

    private static Problem With(Problem problem, Func<AttentionOptions, AttentionOptions> change) => problem with { Options = change(problem.Options) };

    private static int Queries(Problem problem) => problem.Form == CallForm.Dense ? problem.QueryLengths[0] : problem.TotalQueries;

    /// <summary>A key in 17 has negative infinity.</summary>
    private static Problem WithBias(Problem problem, AttentionElementType type, int heads, int queries)
    {
        int keys = problem.KeyLengths.Max();
        return problem with
        {
            BiasType = type,
            Bias = new([.. Enumerable.Range(0, heads * queries * keys).Select(i => i * 7919 % 17 == 3 ? float.NegativeInfinity : Elements.Round(type, (i * 7919 % 1009 / 250f) - 2))], 1, heads, queries, keys),
        };
    }

    /// <summary>Hides a key in five, and from some rows whole tiles of 64.</summary>
    private static Problem WithMask(Problem problem, int heads, int queries)
    {
        int keys = problem.KeyLengths.Max();
        return problem with { Mask = new([.. Enumerable.Range(0, heads * queries * keys).Select(i => i * 7919 % 1009 % 5 != 2 && ((i % keys / 64) + (i / keys / 20)) % 4 != 1)], 1, heads, queries, keys) };
    }

    private static Problem WithScore(Problem problem, ScoreFunction function) => With(problem, options => options with { ScoreFunction = function });

    private static Problem WithKept(Problem problem, MaskFunction function) => With(problem, options => options with { MaskFunction = function });

    /// <summary>One of the choices of a feature.</summary>
    private readonly record struct Choice(int Feature, int Number) : IComparable<Choice>
    {
        public int CompareTo(Choice other) => Feature != other.Feature ? Feature.CompareTo(other.Feature) : Number.CompareTo(other.Number);
    }
}
