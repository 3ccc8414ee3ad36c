using FusedAttention.Checking.Formats;
using FusedAttention.Checking.Problems;

namespace FusedAttention.Checking.Oracle;

/// <summary>The oracle's answer to a whole call, in the layouts of the call's own outputs, with how much error each row may have.</summary>
/// <param name="Output">As <see cref="CallInputs.OutputShape"/>.</param>
/// <param name="LogSumExp">As <see cref="CallInputs.LogSumExpShape"/>, the sink included.</param>
/// <param name="LogSumExpOfKeys">The same over the keys alone.</param>
/// <param name="OutputLimits">The allowed error of each row's output, at the index of its log-sum-exp.</param>
/// <param name="LogSumExpLimits">The allowed error of each log-sum-exp.</param>
public sealed record OracleResult(double[] Output, double[] LogSumExp, double[] LogSumExpOfKeys, double[] OutputLimits, double[] LogSumExpLimits)
{
    /// <summary>How far an output of the call is from this one.</summary>
    public ErrorSummary CompareOutput(CallInputs call, LoadedTensor output) => ErrorSummary.Compare(output.ToDoubles(), Output, i => OutputLimits[call.StatisticIndexOfOutput(i)]);

    /// <summary>How far its log-sum-exp is.</summary>
    public ErrorSummary CompareLogSumExp(LoadedTensor logSumExp) => ErrorSummary.Compare(logSumExp.ToDoubles(), LogSumExp, i => LogSumExpLimits[i]);
}

/// <summary>Computes a whole call with <see cref="NaiveAttention"/>, sequence by sequence.</summary>
public static class CallOracle
{
    /// <param name="call">A call that <see cref="CallCheck"/> has passed.</param>
    /// <param name="threads">Rows computed at the same time.</param>
    /// <param name="onRow">Called after each finished row of each head, from any thread.</param>
    /// <param name="cancellation">Cancels between rows.</param>
    public static OracleResult Compute(CallInputs call, int threads, Action? onRow, CancellationToken cancellation)
    {
        int rows = call.Batch * call.QueryLength * call.Heads;
        var result = new OracleResult(new double[(long)rows * call.ValueDim], new double[rows], new double[rows], new double[rows], new double[rows]);
        double[] query = call.Query.ToDoubles();
        double[] key = Numbers(call.Key, call.KeyScale);
        double[] value = Numbers(call.Value, call.ValueScale);
        double[]? bias = call.Bias?.ToDoubles();
        for (int s = 0; s < call.SequenceCount; s++)
        {
            CallSequence sequence = call.Sequence(s);
            NaiveProblem problem = Problem(call, sequence, query, key, value, bias);
            NaiveResult naive = NaiveAttention.ComputeParallel(problem, threads, onRow, cancellation);
            Place(call, sequence, naive, ErrorLimits.Of(problem, naive, call.Query.ElementType), result);
        }

        return result;
    }

    /// <summary>Rows of all heads: what <c>onRow</c> counts.</summary>
    public static long RowCount(CallInputs call) => (long)call.Batch * call.QueryLength * call.Heads;

    private static NaiveProblem Problem(CallInputs call, CallSequence sequence, double[] query, double[] key, double[] value, double[]? bias)
    {
        int queryRow = call.Heads * call.KeyDim;
        return NaiveProblem.Create(
            sequence.Queries, sequence.Keys, call.Heads, call.KeyValueHeads, call.KeyDim, call.ValueDim,
            query[(sequence.FirstQuery * queryRow)..((sequence.FirstQuery + sequence.Queries) * queryRow)],
            Gather(call, sequence, key, call.KeyValueHeads * call.KeyDim),
            Gather(call, sequence, value, call.KeyValueHeads * call.ValueDim),
            call.Options,
            mask: call.Mask is LoadedTensor mask ? Broadcast(call, sequence, mask, i => mask.Bytes[i] != 0) : null,
            bias: bias is null ? null : Broadcast(call, sequence, call.Bias!, i => bias[i]),
            sequence: sequence.Index);
    }

    /// <summary>Numbers of keys or values: codes times scales, <c>[batch or blocks, tokens, heads]</c> by broadcast.</summary>
    public static double[] Numbers(LoadedTensor codes, LoadedTensor? scale)
    {
        double[] numbers = codes.ToDoubles();
        if (scale is null) return numbers;
        ReadOnlySpan<float> scales = scale.Elements<float>();
        (int headLength, int headStride) = Dimension(scale, 1);
        (int tokenLength, int tokenStride) = Dimension(scale, 2);
        (int batchLength, int batchStride) = Dimension(scale, 3);
        (int heads, int tokens, int dim) = ((int)codes.Shape[^2], (int)codes.Shape[^3], (int)codes.Shape[^1]);
        for (int i = 0; i < numbers.Length; i++)
        {
            int row = i / dim, token = row / heads;
            numbers[i] *= scales[
                (headLength > 1 ? row % heads * headStride : 0) + (tokenLength > 1 ? token % tokens * tokenStride : 0) + (batchLength > 1 ? token / tokens * batchStride : 0)];
        }

        return numbers;
    }

    private static double[] Gather(CallInputs call, CallSequence sequence, double[] all, int width)
    {
        double[] own = new double[sequence.Keys * width];
        for (int key = 0; key < sequence.Keys; key++) Array.Copy(all, (long)call.KeyToken(sequence.Index, key) * width, own, (long)key * width, width);
        return own;
    }

    /// <summary>
    /// Reads a mask or bias at (head, query, key) of a sequence. Dense: <c>[batch, head, query, key]</c>; else <c>[head, query of the call, key]</c>.
    /// A leading dimension may be absent or 1.
    /// </summary>
    private static Func<int, int, int, T> Broadcast<T>(CallInputs call, CallSequence sequence, LoadedTensor tensor, Func<int, T> element)
    {
        (int queryLength, int queryStride) = Dimension(tensor, 2);
        (int headLength, int headStride) = Dimension(tensor, 3);
        (int batchLength, int batchStride) = Dimension(tensor, 4);
        int firstQuery = call.Layout == SequenceLayout.Dense ? 0 : sequence.FirstQuery;
        int batch = call.Layout == SequenceLayout.Dense && batchLength > 1 ? sequence.Index : 0;
        return (head, query, key) => element(
            (batch * batchStride) + (headLength > 1 ? head * headStride : 0) + (queryLength > 1 ? (firstQuery + query) * queryStride : 0) + key);
    }

    private static (int Length, int Stride) Dimension(LoadedTensor tensor, int fromEnd)
    {
        if (fromEnd > tensor.Rank) return (1, 0);
        long stride = 1;
        for (int i = 1; i < fromEnd; i++) stride *= tensor.Shape[^i];
        return ((int)tensor.Shape[^fromEnd], (int)stride);
    }

    private static void Place(CallInputs call, CallSequence sequence, NaiveResult naive, (double[] Output, double[] LogSumExp) limits, OracleResult result)
    {
        naive.Output.CopyTo(result.Output, (long)sequence.FirstQuery * call.Heads * call.ValueDim);
        for (int head = 0; head < call.Heads; head++)
        {
            for (int query = 0; query < sequence.Queries; query++)
            {
                int from = (head * sequence.Queries) + query;
                int to = call.StatisticIndex(sequence.FirstQuery + query, head);
                result.LogSumExp[to] = naive.LogSumExp[from];
                result.LogSumExpOfKeys[to] = naive.LogSumExpOfKeys[from];
                result.OutputLimits[to] = limits.Output[from];
                result.LogSumExpLimits[to] = limits.LogSumExp[from];
            }
        }
    }
}
