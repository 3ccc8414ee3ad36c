namespace FusedAttention.Testing;

/// <summary>Per sequence: output [token, head, valueDim] and log-sum-exp [head, token], each with the largest error that a correct kernel may show.</summary>
internal sealed record Solution(double[][] Output, double[][] OutputLimit, double[][] LogSumExp, double[][] LogSumExpLimit)
{
    /// <summary>
    /// Of each output o, by how much it moves at most for each part that all weights are off: <c>sum_j p_j max(|v_jd|, |v_jd - o_d|)</c>. A kernel that divides by the sum of the exact weights is off by a weight's error
    /// times the value, one that divides by the sum of the rounded ones by that times the value's distance from the output, which is the larger one where a row's weight is on values of both signs.
    /// </summary>
    public double[][] Magnitude { get; } = new double[Output.Length][];

    /// <summary>Of each output, the sum of the squares of the same.</summary>
    public double[][] Square { get; } = new double[Output.Length][];

    /// <summary>With limits for a kernel that rounds weights to an element type before it multiplies values by them, as tensor cores have it.</summary>
    /// <param name="weightType">The type.</param>
    /// <param name="outputType">Of the output, whose own rounding may take another step for it.</param>
    public Solution WithRoundedWeights(AttentionElementType weightType, AttentionElementType outputType)
    {
        // Half a unit in the last place of 11 or 8 bits. At worst all weights are off in one direction and against the signs of their values; where there are many, values do not know how their weights are
        // rounded: what is off alike moves the output by as much of itself, and of the rest 3.5 times the root of the squares is 6 standard deviations.
        double relative = weightType switch { AttentionElementType.Float16 => Math.ScaleB(1, -11), AttentionElementType.BFloat16 => Math.ScaleB(1, -8), _ => 0 };
        double[][] limits = new double[Output.Length][];
        for (int s = 0; s < limits.Length; s++)
        {
            limits[s] = new double[Output[s].Length];
            for (int n = 0; n < limits[s].Length; n++)
            {
                double more = relative * Math.Min(Magnitude[s][n], Math.Abs(Output[s][n]) + (3.5 * Math.Sqrt(Square[s][n])));
                limits[s][n] = OutputLimit[s][n] + more + Elements.HalfUlp(outputType, Math.Abs(Output[s][n]) + OutputLimit[s][n] + more) - Elements.HalfUlp(outputType, Output[s][n]);
            }
        }

        return this with { OutputLimit = limits };
    }

    /// <summary>
    /// With limits for a kernel that, with ALiBi, has scores relative to the largest one of the tiles before. Those may be as far down as the row's farthest key: where a row's position is in the midst of its keys or before them, the tiles that
    /// come first are the far ones. What a column adds, the product beside it, the distance of the last column and the new maximum less the old one are each rounded where that is as large: 4 times 2^-24 of it, in each score of a tile.
    /// </summary>
    public Solution WithDistances(Problem problem)
    {
        if (problem.Options.AlibiSlopes.IsDefaultOrEmpty) return this;
        double[][] outputs = [.. OutputLimit.Select(static limits => (double[])limits.Clone())], logSumExps = [.. LogSumExpLimit.Select(static limits => (double[])limits.Clone())];
        for (int s = 0; s < problem.Sequences; s++)
        {
            for (int n = 0; n < problem.QueryLengths[s] * problem.Heads; n++)
            {
                (int i, int h) = (n / problem.Heads, n % problem.Heads);
                (int from, int to) = problem.KeyRange(s, i);
                long position = i + problem.Offset(s);
                double moved = Math.ScaleB(4 * Math.Abs(problem.Options.AlibiSlopes[h]), -24) * Math.Max(Math.Abs(position - from), Math.Abs(position - to + 1));
                logSumExps[s][(h * problem.QueryLengths[s]) + i] += moved;
                for (int d = n * problem.ValueDim; d < (n + 1) * problem.ValueDim; d++) outputs[s][d] += moved * Magnitude[s][d];
            }
        }

        return this with { OutputLimit = outputs, LogSumExpLimit = logSumExps };
    }
}

/// <summary>
/// Attention row by row in double precision, straight from the semantics, together with an error limit for each number.
/// </summary>
/// <remarks>
/// <para>The limit is first-order perturbation theory, not a guess. An error <c>e_j</c> in score <c>j</c> moves output component <c>d</c> by
/// <c>sum_j p_j (v_jd - o_d) e_j</c>, so its magnitude is at most <c>sum_j p_j |v_jd - o_d| |e_j|</c>.
/// With u = 2^-24, a float kernel that sums in any order has <c>|e_j| &lt;= u ((2 + sqrt(D)) A + 2 (|s| + |bias| + |alibi| + cap + 1))</c>, where
/// <c>A = scale * sum_d |q_d k_d|</c>: the worst case of a dot product of D terms is D roundings of size A, and sums of random signs grow as sqrt(D).
/// The exponential (2e-7 relative), the running sum of n weights and the product with the values add <c>u (8 + sqrt(n)) sum_j p_j |v_jd|</c>, and
/// the output's own rounding half a unit in its last place. The largest error of the 700 cases of the sweep, on any variant, is 60 % of its limit.</para>
/// <para>So a peaked row has a tight limit even if its logits are large, and a limit never hides a wrong mask: leaving one key of a flat row of n
/// out moves the output by |v| / n, thousands of times the limit.</para>
/// </remarks>
internal static class RowByRow
{
    private const double U = 1.0 / (1 << 24);

    // 2^-126: a weight below it, of a key 88 below the row's largest score, may be 0. GPUs' exponentials flush it.
    private const double Underflow = 1.1754943508222875e-38;

    /// <param name="problem">The problem.</param>
    /// <param name="takesIntegers">Of which sequences queries and weights may have become 16-bit integers; null: of none. <see cref="Integers"/> has what that costs.</param>
    public static Solution Solve(Problem problem, Func<int, bool>? takesIntegers = null)
    {
        int sequences = problem.Sequences;
        var solution = new Solution(new double[sequences][], new double[sequences][], new double[sequences][], new double[sequences][]);
        for (int s = 0; s < sequences; s++)
        {
            int queries = problem.QueryLengths[s];
            (double[] keys, double[] values) = (problem.KeyNumbers(s), problem.ValueNumbers(s));
            solution.Magnitude[s] = new double[queries * problem.Heads * problem.ValueDim];
            solution.Square[s] = new double[queries * problem.Heads * problem.ValueDim];
            solution.Output[s] = new double[queries * problem.Heads * problem.ValueDim];
            solution.OutputLimit[s] = new double[queries * problem.Heads * problem.ValueDim];
            solution.LogSumExp[s] = new double[problem.Heads * queries];
            solution.LogSumExpLimit[s] = new double[problem.Heads * queries];
            for (int i = 0; i < queries; i++)
            {
                for (int h = 0; h < problem.Heads; h++) SolveRow(problem, keys, values, solution, s, i, h, takesIntegers?.Invoke(s) == true);
            }
        }

        return solution;
    }

    /// <summary>The score of one query and key in double precision with its error limit, or null where the key is not allowed.</summary>
    private static (double Score, double Error)? Score(Problem problem, double[] keys, int s, int i, int h, int j, ReadOnlySpan<double> lost)
    {
        int kvHead = h / (problem.Heads / problem.KeyValueHeads);
        ReadOnlySpan<float> q = problem.Query[s].AsSpan(((i * problem.Heads) + h) * problem.KeyDim, problem.KeyDim);
        ReadOnlySpan<double> k = keys.AsSpan(((j * problem.KeyValueHeads) + kvHead) * problem.KeyDim, problem.KeyDim);
        int row = problem.Form == CallForm.Dense ? i : problem.FirstQuery(s) + i;
        int batch = problem.Form == CallForm.Dense ? s : 0;
        if (problem.Mask is not null && !problem.Mask.At(batch, h, row, j)) return null;
        double bias = problem.Bias?.At(batch, h, row, j) ?? 0;
        long position = i + problem.Offset(s);
        if (problem.Options.MaskFunction is { } mask && !mask.Evaluate(s, h, i, position, j)) return null;
        if (problem.Options.ScoreFunction is { } function)
        {
            // What is excluded is the function's to say: a bias of negative infinity is one of the scores that come to it.
            (double before, double slack) = double.IsNegativeInfinity(bias) ? (bias, 0) : Sum(problem, s, i, h, j, q, k, bias, lost);
            double after = function.Evaluate(before, s, h, i, position, j);
            if (double.IsNegativeInfinity(after)) return null;
            double moved = slack == 0 ? 0 : Math.Max(Math.Abs(function.Evaluate(before + slack, s, h, i, position, j) - after), Math.Abs(function.Evaluate(before - slack, s, h, i, position, j) - after));
            return (after, moved + (8 * U * (Math.Abs(after) + (double.IsFinite(before) ? Math.Min(Math.Abs(before), Math.Abs(before - after) + Math.Abs(after)) : 0) + 1)));
        }

        return double.IsNegativeInfinity(bias) ? null : Sum(problem, s, i, h, j, q, k, bias, lost);
    }

    /// <summary>The score before functions and masks.</summary>
    private static (double Score, double Error) Sum(Problem problem, int s, int i, int h, int j, ReadOnlySpan<float> q, ReadOnlySpan<double> k, double bias, ReadOnlySpan<double> lost)
    {
        double dot = 0;
        double magnitude = 0;
        for (int d = 0; d < q.Length; d++)
        {
            double product = q[d] * k[d];
            dot += product;
            magnitude += Math.Abs(product);
        }

        double score = problem.Scale * dot;
        double error = U * (((2 + Math.Sqrt(q.Length)) * problem.Scale * magnitude) + 2);
        double moved = 0;
        for (int d = 0; d < lost.Length; d++) moved += lost[d] * k[d];
        error += Math.Abs(problem.Scale * moved);
        double cap = problem.Options.SoftCap;
        if (cap > 0)
        {
            score = cap * Math.Tanh(score / cap);
            error += 2 * U * cap;
        }

        double alibi = 0;
        if (!problem.Options.AlibiSlopes.IsDefaultOrEmpty)
        {
            alibi = problem.Options.AlibiSlopes[h] * (double)Math.Abs(i + problem.Offset(s) - j);
        }

        // A bias near the most negative finite value swallows the score, exactly and alike in float and double.
        if (bias < -1e30) return (bias, 0);
        error += 2 * U * (Math.Abs(score) + Math.Abs(bias) + Math.Abs(alibi));
        return (score + bias - alibi, error);
    }

    private static void SolveRow(Problem problem, double[] keys, double[] valueNumbers, Solution solution, int s, int i, int h, bool takesIntegers)
    {
        (int from, int to) = problem.KeyRange(s, i);
        int dim = problem.ValueDim;
        int kvHead = h / (problem.Heads / problem.KeyValueHeads);
        double sink = problem.Options.SinkLogits.IsDefaultOrEmpty ? double.NegativeInfinity : problem.Options.SinkLogits[h];

        var allowed = new List<(int Key, double Score, double Error)>(to - from);
        double maximum = sink;
        double[] lost = takesIntegers ? Integers.Lost(problem.Query[s].AsSpan(((i * problem.Heads) + h) * problem.KeyDim, problem.KeyDim)) : [];
        for (int j = from; j < to; j++)
        {
            if (Score(problem, keys, s, i, h, j, lost) is not (double score, double error)) continue;
            allowed.Add((j, score, error));
            maximum = Math.Max(maximum, score);
        }

        int lseIndex = (h * problem.QueryLengths[s]) + i;
        Span<double> output = solution.Output[s].AsSpan(((i * problem.Heads) + h) * dim, dim);
        Span<double> limit = solution.OutputLimit[s].AsSpan(((i * problem.Heads) + h) * dim, dim);
        Span<double> magnitude = solution.Magnitude[s].AsSpan(((i * problem.Heads) + h) * dim, dim);
        Span<double> square = solution.Square[s].AsSpan(((i * problem.Heads) + h) * dim, dim);
        if (double.IsNegativeInfinity(maximum))
        {
            solution.LogSumExp[s][lseIndex] = double.NegativeInfinity;
            return;
        }

        double sum = Math.Exp(sink - maximum);
        foreach ((_, double score, _) in allowed) sum += Math.Exp(score - maximum);
        double lse = maximum + Math.Log(sum);
        double lseError = 0;
        var values = new List<(double Weight, double Error, int Offset)>(allowed.Count);
        foreach ((int key, double score, double error) in allowed)
        {
            double weight = Math.Exp(score - maximum) / sum;
            lseError += weight * error;
            values.Add((weight, error, ((key * problem.KeyValueHeads) + kvHead) * dim));
            for (int d = 0; d < dim; d++) output[d] += weight * valueNumbers[values[^1].Offset + d];
        }

        double sumFactor = U * (8 + Math.Sqrt(allowed.Count));
        solution.LogSumExp[s][lseIndex] = lse;
        solution.LogSumExpLimit[s][lseIndex] = lseError + sumFactor + (2 * U * Math.Abs(lse));
        double[] rounded = takesIntegers ? Integers.WeightErrors(problem, s, kvHead, [.. allowed.Select(static a => a.Key)], [.. values.Select(static v => v.Weight)]) : [];
        for (int d = 0; d < dim; d++)
        {
            double moved = takesIntegers ? rounded[d] : 0;
            foreach ((double weight, double error, int offset) in values)
            {
                double v = valueNumbers[offset + d];
                magnitude[d] += weight * Math.Max(Math.Abs(v), Math.Abs(v - output[d]));
                square[d] += weight * v * weight * v;
                moved += (weight * ((Math.Abs(v - output[d]) * error) + (sumFactor * Math.Abs(v)))) + (Underflow * Math.Abs(v));
            }

            limit[d] = moved + Elements.HalfUlp(problem.QueryType, Math.Abs(output[d]) + moved);
        }
    }
}
