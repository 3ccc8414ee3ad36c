using System.Numerics.Tensors;
using FusedAttention.Cpu;
using FusedAttention.Cpu.Merging;
using FusedAttention.Problems;
using FusedAttention.Tensors;

namespace FusedAttention;

public static unsafe partial class Attention
{
    /// <summary>
    /// Combines attention over parts of a context, <c>[parts, batch, queries, heads, valueDim]</c> (a shared prefix and the rest, pieces held by several machines) into attention over the whole,
    /// by the parts' log-sum-exps: <c>o = sum_i exp(lse_i - lse) * o_i</c> with <c>lse = log(sum_i exp(lse_i))</c>.
    /// </summary>
    /// <remarks>
    /// A sink belongs to the context once: compute every part without sinks and give them here, or let exactly one part have them.
    /// A part whose log-sum-exp is negative infinity saw no key and has no weight, whatever its output holds. Parts are combined in order, so the result is the same on every run.
    /// A row that no part has a key for gives zeros and negative infinity, or the sink's logit. A log-sum-exp of NaN or positive infinity makes its row NaN.
    /// An infinite or undefined element of a part that saw a key stays so, however small the part's weight.
    /// </remarks>
    /// <typeparam name="TPartial">Element type of the parts: <see cref="float"/>, <see cref="Half"/> or <see cref="BFloat16"/>.</typeparam>
    /// <typeparam name="TOutput">Element type of the result: any of these, whatever the parts are.</typeparam>
    /// <param name="partialOutputs"><c>[parts, batch, queries, heads, valueDim]</c>, or without the batch dimension; 1 part or more; any strides with a contiguous last dimension.</param>
    /// <param name="partialLogSumExps"><c>[parts, batch, heads, queries]</c>, or without the batch dimension; natural logarithm; any strides.</param>
    /// <param name="output"><c>[batch, queries, heads, valueDim]</c>, or without the batch dimension; contiguous last dimension; must not overlap an input or itself.</param>
    /// <param name="logSumExp">Receives the combined log-sum-exp, the sink included, <c>[batch, heads, queries]</c>, or without the batch dimension; default: not wanted. Must not overlap anything.</param>
    /// <param name="sinkLogits">One sink logit per head to add in this step, finite or negative infinity; empty: none.</param>
    /// <param name="execution">Threads and instruction set, none of which changes a bit of the result; null for <see cref="CpuExecution.Default"/>.</param>
    /// <param name="cancellationToken">Cancels the call between pieces of its work.</param>
    /// <exception cref="ArgumentException">A shape, stride, type or overlap is not as described; the message has the numbers.</exception>
    /// <exception cref="PlatformNotSupportedException">The instruction set that <paramref name="execution"/> names is not available.</exception>
    /// <exception cref="OperationCanceledException"><paramref name="cancellationToken"/> was cancelled; the outputs are undefined.</exception>
    public static void Merge<TPartial, TOutput>(
        scoped in ReadOnlyTensorSpan<TPartial> partialOutputs,
        scoped in ReadOnlyTensorSpan<float> partialLogSumExps,
        scoped in TensorSpan<TOutput> output,
        scoped in TensorSpan<float> logSumExp = default,
        ReadOnlySpan<float> sinkLogits = default,
        CpuExecution? execution = null,
        CancellationToken cancellationToken = default)
        where TPartial : unmanaged
        where TOutput : unmanaged
    {
        AttentionElementType partialType = ElementTypes.Of<TPartial>(nameof(partialOutputs)), outputType = ElementTypes.Of<TOutput>(nameof(output));
        var partials = TensorLayout.Of(partialOutputs);
        var partialLses = TensorLayout.Of(partialLogSumExps);
        var result = TensorLayout.Of(output);
        var lse = TensorLayout.Of(logSumExp);
        MergeShape shape = MergeShape.Of(partials, partialLses, result, lse, sinkLogits);

        fixed (TPartial* partialsFirst = partialOutputs)
        fixed (float* partialLsesFirst = partialLogSumExps)
        fixed (TOutput* resultFirst = output)
        fixed (float* lseFirst = logSumExp)
        fixed (float* sinksFirst = sinkLogits)
        {
            MergeShape.CheckOverlaps(
                TensorArgument.Of(partialsFirst, partials, nameof(partialOutputs)), TensorArgument.Of(partialLsesFirst, partialLses, nameof(partialLogSumExps)),
                TensorArgument.Of(sinksFirst, TensorLayout.Of([sinkLogits.Length], [1]), nameof(sinkLogits)), TensorArgument.Of(resultFirst, result, nameof(output)),
                TensorArgument.Of(lseFirst, lse, nameof(logSumExp)));
            var problem = new MergeProblem
            {
                Shape = shape,
                PartialType = partialType,
                OutputType = outputType,
                Partials = (byte*)partialsFirst,
                PartialLogSumExps = partialLsesFirst,
                Sinks = sinksFirst,
                Output = (byte*)resultFirst,
                LogSumExps = lseFirst,
            };
            MergeCall.Run(problem, execution ?? CpuExecution.Default, cancellationToken);
        }
    }

    /// <summary>Combines parts held in tensors: outputs <c>[parts, batch, queries, heads, valueDim]</c>, log-sum-exps <c>[parts, batch, heads, queries]</c>.</summary>
    /// <inheritdoc cref="Merge{TPartial, TOutput}(in ReadOnlyTensorSpan{TPartial}, in ReadOnlyTensorSpan{float}, in TensorSpan{TOutput}, in TensorSpan{float}, ReadOnlySpan{float}, CpuExecution, CancellationToken)"/>
    public static void Merge<TPartial, TOutput>(
        Tensor<TPartial> partialOutputs,
        Tensor<float> partialLogSumExps,
        Tensor<TOutput> output,
        Tensor<float>? logSumExp = null,
        ReadOnlySpan<float> sinkLogits = default,
        CpuExecution? execution = null,
        CancellationToken cancellationToken = default)
        where TPartial : unmanaged
        where TOutput : unmanaged
    {
        ArgumentNullException.ThrowIfNull(partialOutputs);
        ArgumentNullException.ThrowIfNull(partialLogSumExps);
        ArgumentNullException.ThrowIfNull(output);
        Merge<TPartial, TOutput>(
            partialOutputs.AsReadOnlyTensorSpan(),
            partialLogSumExps.AsReadOnlyTensorSpan(),
            output.AsTensorSpan(),
            logSumExp is null ? default : logSumExp.AsTensorSpan(),
            sinkLogits,
            execution,
            cancellationToken);
    }
}
