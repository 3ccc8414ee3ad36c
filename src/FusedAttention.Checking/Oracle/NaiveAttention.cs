using System.Collections.Immutable;
using System.Numerics.Tensors;

namespace FusedAttention.Checking.Oracle;

/// <summary>
/// Attention of one sequence as plain numbers in double precision: what <see cref="NaiveAttention"/> computes. Dense batch rows, packed sequences and paged
/// sequences all become problems of this one kind.
/// </summary>
public sealed class NaiveProblem
{
    public required int Queries { get; init; }

    public required int Keys { get; init; }

    public required int Heads { get; init; }

    public required int KeyValueHeads { get; init; }

    public required int KeyDim { get; init; }

    public required int ValueDim { get; init; }

    /// <summary><c>[Queries, Heads, KeyDim]</c>.</summary>
    public required double[] Query { get; init; }

    /// <summary><c>[Keys, KeyValueHeads, KeyDim]</c>.</summary>
    public required double[] Key { get; init; }

    /// <summary><c>[Keys, KeyValueHeads, ValueDim]</c>.</summary>
    public required double[] Value { get; init; }

    public required double Scale { get; init; }

    /// <summary>0 for none.</summary>
    public double SoftCap { get; init; }

    public bool IsCausal { get; init; }

    public int? WindowLeft { get; init; }

    public int? WindowRight { get; init; }

    /// <summary>The position of query 0 on the key axis: <see cref="AlignedOffset"/>, or whatever the caller says.</summary>
    public required long QueryOffset { get; init; }

    /// <summary>One per head, or default for none.</summary>
    public ImmutableArray<float> AlibiSlopes { get; init; }

    /// <summary>One per head, or default for none.</summary>
    public ImmutableArray<float> SinkLogits { get; init; }

    /// <summary>Whether (head, query, key) is allowed; null for no mask.</summary>
    public Func<int, int, int, bool>? Mask { get; init; }

    /// <summary>What (head, query, key) adds to its score; null for no bias.</summary>
    public Func<int, int, int, double>? Bias { get; init; }

    /// <summary>What becomes of a score of (head, query, position, key) as the last step before the masks; null for no function.</summary>
    public Func<double, int, int, long, int, double>? ScoreFunction { get; init; }

    /// <summary>Whether (head, query, position, key) is kept; null for no function.</summary>
    public Func<int, int, long, int, bool>? MaskFunction { get; init; }

    /// <summary>The position of query 0 that an alignment gives: 0, or keys - queries (which may be negative).</summary>
    public static long AlignedOffset(AttentionAlignment alignment, int queries, int keys) => alignment == AttentionAlignment.TopLeft ? 0 : (long)keys - queries;

    /// <summary>A problem with the semantics that options ask for.</summary>
    public static NaiveProblem Create(
        int queries, int keys, int heads, int keyValueHeads, int keyDim, int valueDim, double[] query, double[] key, double[] value, AttentionOptions options, long? queryOffset = null,
        Func<int, int, int, bool>? mask = null, Func<int, int, int, double>? bias = null, int sequence = 0) => new()
        {
            Queries = queries,
            Keys = keys,
            Heads = heads,
            KeyValueHeads = keyValueHeads,
            KeyDim = keyDim,
            ValueDim = valueDim,
            Query = query,
            Key = key,
            Value = value,
            // The default scale is a float in every backend, so it is one here too.
            Scale = options.Scale ?? (float)(1 / Math.Sqrt(keyDim)),
            SoftCap = options.SoftCap,
            IsCausal = options.Mask.IsCausal,
            WindowLeft = options.Mask.WindowLeft,
            WindowRight = options.Mask.WindowRight,
            QueryOffset = queryOffset ?? options.QueryOffset ?? AlignedOffset(options.Alignment, queries, keys),
            AlibiSlopes = options.AlibiSlopes,
            SinkLogits = options.SinkLogits,
            Mask = mask,
            Bias = bias,
            ScoreFunction = options.ScoreFunction is { } score ? (s, head, query, position, key) => score.Evaluate(s, sequence, head, query, position, key) : null,
            MaskFunction = options.MaskFunction is { } keep ? (head, query, position, key) => keep.Evaluate(sequence, head, query, position, key) : null,
        };
}

/// <summary>The answer to a <see cref="NaiveProblem"/>.</summary>
/// <param name="Output"><c>[Queries, Heads, ValueDim]</c>.</param>
/// <param name="LogSumExp"><c>[Heads, Queries]</c>, natural logarithm, the sink included.</param>
/// <param name="LogSumExpOfKeys"><c>[Heads, Queries]</c>, over the keys alone.</param>
/// <param name="ScoreSize">
/// <c>[Heads, Queries]</c>: the mean of |score| under the row's weights. The rounding of scores moves a result in proportion to it.
/// </param>
public sealed record NaiveResult(double[] Output, double[] LogSumExp, double[] LogSumExpOfKeys, double[] ScoreSize);

/// <summary>
/// Attention row by row in double precision, every formula written out once and in the order of its definition. It stores one row of scores at a time and is
/// made to be checked by eye, not to be fast; it shares no code with the kernels that it checks.
/// </summary>
/// <remarks>
/// Infinities and NaN in scores follow the formulas literally: a row with a score of +inf has log-sum-exp +inf and an output of NaN
/// (its weight is exp(inf - inf)); NaN spreads to both. A row whose scores are all -inf has no weights to share out and is as a row without keys: zeros.
/// </remarks>
public static class NaiveAttention
{
    /// <summary>Computes a sequence on the calling thread and as many others as help.</summary>
    public static NaiveResult Compute(NaiveProblem problem) => ComputeParallel(problem, Environment.ProcessorCount, null, CancellationToken.None);

    /// <summary>Computes a sequence.</summary>
    /// <param name="problem">The sequence.</param>
    /// <param name="threads">Rows computed at the same time; the result does not depend on it.</param>
    /// <param name="onRow">Called after each finished row of each head, from any thread.</param>
    /// <param name="cancellation">Cancels between rows.</param>
    public static NaiveResult ComputeParallel(NaiveProblem problem, int threads, Action? onRow, CancellationToken cancellation)
    {
        int rows = problem.Heads * problem.Queries;
        var result = new NaiveResult(new double[(long)rows * problem.ValueDim], new double[rows], new double[rows], new double[rows]);
        var parallel = new ParallelOptions { MaxDegreeOfParallelism = threads, CancellationToken = cancellation };
        Parallel.For(0, rows, parallel, () => (Scores: new double[problem.Keys], Allowed: new bool[problem.Keys]), (row, _, scratch) =>
        {
            ComputeRow(problem, row / problem.Queries, row % problem.Queries, scratch.Scores, scratch.Allowed, result);
            onRow?.Invoke();
            return scratch;
        }, static _ => { });
        return result;
    }

    private static void ComputeRow(NaiveProblem problem, int head, int query, double[] scores, bool[] allowed, NaiveResult result)
    {
        Span<double> output = result.Output.AsSpan(((query * problem.Heads) + head) * problem.ValueDim, problem.ValueDim);
        int kvHead = head / (problem.Heads / problem.KeyValueHeads);
        long position = query + problem.QueryOffset;
        double sink = problem.SinkLogits.IsDefaultOrEmpty ? double.NegativeInfinity : problem.SinkLogits[head];

        // Excluded keys are marked apart, not by a score of -inf: an allowed key's score may be any number, -inf and NaN too.
        double keyMaximum = double.NegativeInfinity;
        bool any = false;
        for (int key = 0; key < problem.Keys; key++)
        {
            allowed[key] = IsAllowed(problem, head, query, key, position);
            if (!allowed[key]) continue;
            scores[key] = Score(problem, head, kvHead, query, key, position);
            if (problem.ScoreFunction is not null && double.IsNegativeInfinity(scores[key]))
            {
                allowed[key] = false;
                continue;
            }

            keyMaximum = Math.Max(keyMaximum, scores[key]);
            any = true;
        }

        // Everything is relative to the largest logit m, sink included: neither sums nor weights can overflow, and a row whose every score is the most negative
        // finite number is still a plain average.
        double maximum = Math.Max(keyMaximum, sink);
        double keySum = 0;
        double sum = ExpDifference(sink, maximum);
        for (int key = 0; key < problem.Keys; key++)
        {
            if (!allowed[key]) continue;
            keySum += ExpDifference(scores[key], keyMaximum);
            sum += ExpDifference(scores[key], maximum);
        }

        int statistic = (head * problem.Queries) + query;
        result.LogSumExpOfKeys[statistic] = any ? keyMaximum + Math.Log(keySum) : double.NegativeInfinity;
        result.LogSumExp[statistic] = double.IsNegativeInfinity(maximum) ? double.NegativeInfinity : maximum + Math.Log(sum);
        if (double.IsNegativeInfinity(maximum)) return;
        for (int key = 0; key < problem.Keys; key++)
        {
            if (!allowed[key]) continue;
            ReadOnlySpan<double> value = problem.Value.AsSpan(((key * problem.KeyValueHeads) + kvHead) * problem.ValueDim, problem.ValueDim);
            double weight = Math.Exp(scores[key] - maximum) / sum;
            TensorPrimitives.MultiplyAdd(value, weight, output, output);
            result.ScoreSize[statistic] += weight * Math.Abs(scores[key]);
        }
    }

    private static bool IsAllowed(NaiveProblem problem, int head, int query, int key, long position)
        => (!problem.IsCausal || key <= position)
        && (problem.WindowLeft is not int left || key >= position - left)
        && (problem.WindowRight is not int right || key <= position + right)
        && (problem.Mask is null || problem.Mask(head, query, key))
        && (problem.MaskFunction is null || problem.MaskFunction(head, query, position, key))
        && (problem.Bias is null || problem.ScoreFunction is not null || !double.IsNegativeInfinity(problem.Bias(head, query, key)));

    private static double Score(NaiveProblem problem, int head, int kvHead, int query, int key, long position)
    {
        double score = problem.Scale * TensorPrimitives.Dot(
            problem.Query.AsSpan(((query * problem.Heads) + head) * problem.KeyDim, problem.KeyDim),
            problem.Key.AsSpan(((key * problem.KeyValueHeads) + kvHead) * problem.KeyDim, problem.KeyDim));
        if (problem.SoftCap > 0) score = problem.SoftCap * Math.Tanh(score / problem.SoftCap);
        if (problem.Bias is not null) score += problem.Bias(head, query, key);
        if (!problem.AlibiSlopes.IsDefaultOrEmpty) score -= (double)problem.AlibiSlopes[head] * Math.Abs(position - key);
        return problem.ScoreFunction is null ? score : problem.ScoreFunction(score, head, query, position, key);
    }

    /// <summary>exp(logit - maximum), where two infinities of one sign make a difference of 0 and not of NaN: the log-sum-exp of a row with +inf is +inf.</summary>
    private static double ExpDifference(double logit, double maximum) => logit == maximum ? 1 : Math.Exp(logit - maximum);
}
