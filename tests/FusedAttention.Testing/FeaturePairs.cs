namespace FusedAttention.Testing;

/// <summary>
/// Each feature of a call beside each other one. Kernels have texts of their own for what is there, and what two of them leave out between them no test of one shows: a bias beside ALiBi had been without the distances in one kernel of
/// one backend. Where both say the same of a call, as two biases or two masks by position do, the second alone is there.
/// </summary>
internal static class FeaturePairs
{
    private const int Heads = 4;

    private static readonly (string Name, Func<Problem, Problem> Add)[] Features =
    [
        ("bias", static problem => new ProblemGenerator(1).WithBias(problem, AttentionElementType.Float16)),
        ("bias of keys", static problem => problem with
        {
            BiasType = AttentionElementType.Float32,
            Bias = new([.. Enumerable.Range(0, problem.KeyLengths.Max()).Select(static k => (k * 7919 % 1009 / 250f) - 2)], 1, 1, 1, problem.KeyLengths.Max()),
        }),
        ("mask", static problem => new ProblemGenerator(2).WithMask(problem)),
        ("ALiBi", static problem => With(problem, static options => options with { AlibiSlopes = AlibiSlopes.ForHeads(Heads) })),
        ("soft cap", static problem => With(problem, static options => options with { SoftCap = 1.5f })),
        ("sinks", static problem => With(problem, static options => options with { SinkLogits = [0.5f, -1, 2, 0] })),
        ("causal", static problem => With(problem, static options => options with { Mask = AttentionMask.Causal })),
        ("window", static problem => With(problem, static options => options with { Mask = AttentionMask.CausalWindow(150) })),
        ("score function", static problem => With(problem, static options => options with { ScoreFunction = ScoreFunction.Of(new LinearBias(new ScoreTable([0.5f, 0.1f, 0.02f, 0.004f]))) })),
        ("mask function", static problem => With(problem, static options => options with { MaskFunction = MaskFunction.Of(new GlobalLocalMask(5, 100)) })),
    ];

    /// <summary>The numbers of all features but the last, which is beside each.</summary>
    public static IEnumerable<int> First => Enumerable.Range(0, Features.Length - 1);

    /// <summary>Those behind a feature, which are to be beside it.</summary>
    public static IEnumerable<int> Beside(int first) => Enumerable.Range(first + 1, Features.Length - first - 1);

    /// <summary>One of the three forms, another one for the next pair and for the next number.</summary>
    public static CallForm FormOf(int first, int second, int number = 0) => (CallForm)((first + (2 * second) + number) % 3);

    /// <summary>Whether one of them is a function of the caller's.</summary>
    public static bool HasFunction(int first, int second) => new[] { first, second }.Any(static number => Features[number].Name.EndsWith("function", StringComparison.Ordinal));

    /// <summary>A call with both, over two query heads a key/value head; packed and paged ones have a shorter sequence beside.</summary>
    /// <param name="first">A feature.</param>
    /// <param name="second">Another one.</param>
    /// <param name="form">Of the call: one for each pair, as tests take them in turn.</param>
    /// <param name="type">Of all tensors.</param>
    /// <param name="dim">Of keys and values.</param>
    /// <param name="queries">Rows a head.</param>
    /// <param name="keys">At least as many.</param>
    public static Problem Of(int first, int second, CallForm form, AttentionElementType type, int dim, int queries, int keys) => Features[second].Add(Features[first].Add(new ProblemGenerator(first + second).Fill(new Problem
    {
        Name = $"{Features[first].Name} and {Features[second].Name}, {form}",
        Form = form,
        QueryType = type,
        KeyValueType = type,
        Heads = Heads,
        KeyValueHeads = 2,
        KeyDim = dim,
        ValueDim = dim,
        QueryLengths = form == CallForm.Dense ? [queries] : [queries, (queries + 1) / 2],
        KeyLengths = form == CallForm.Dense ? [keys] : [keys, keys / 3],
        KeyCapacity = keys,
        BlockSize = 16,
        Query = [],
        Key = [],
        Value = [],
        Options = new AttentionOptions(),
    })));

    private static Problem With(Problem problem, Func<AttentionOptions, AttentionOptions> change) => problem with { Options = change(problem.Options) };
}
