using System.Numerics.Tensors;

namespace FusedAttention;

public static unsafe partial class Attention
{
    /// <summary>
    /// Combines attention over parts of a context (a shared prefix and the rest, pieces held by several machines) into attention over the whole,
    /// by the parts' log-sum-exps: <c>o = sum_i exp(lse_i - lse) * o_i</c> with <c>lse = log(sum_i exp(lse_i))</c>.
    /// </summary>
    /// <remarks>
    /// A sink belongs to the context once: compute every part without sinks and give them here, or let exactly one part have them.
    /// A part whose log-sum-exp is negative infinity saw no key and has no weight, whatever its output holds. Parts are combined in order, so the result is the same on every run.
    /// </remarks>
    /// <typeparam name="TPartial">Element type of the parts.</typeparam>
    /// <typeparam name="TOutput">Element type of the result.</typeparam>
    /// <param name="partialOutputs"><c>[parts, batch, queries, heads, valueDim]</c>, or without the batch dimension.</param>
    /// <param name="partialLogSumExps"><c>[parts, batch, heads, queries]</c>, or without the batch dimension; natural logarithm.</param>
    /// <param name="output"><c>[batch, queries, heads, valueDim]</c>, or without the batch dimension; must not overlap an input or itself.</param>
    /// <param name="logSumExp">Receives the combined log-sum-exp, <c>[batch, heads, queries]</c>; default: not wanted.</param>
    /// <param name="sinkLogits">One sink logit per head to add in this step; empty: none.</param>
    /// <exception cref="ArgumentException">A shape, stride, type or overlap is not as described; the message has the numbers.</exception>
    public static void Merge<TPartial, TOutput>(
        scoped in ReadOnlyTensorSpan<TPartial> partialOutputs,
        scoped in ReadOnlyTensorSpan<float> partialLogSumExps,
        scoped in TensorSpan<TOutput> output,
        scoped in TensorSpan<float> logSumExp = default,
        ReadOnlySpan<float> sinkLogits = default)
        where TPartial : unmanaged
        where TOutput : unmanaged
        => throw new NotSupportedException();

    /// <summary>Combines parts held in tensors.</summary>
    /// <inheritdoc cref="Merge{TPartial, TOutput}(in ReadOnlyTensorSpan{TPartial}, in ReadOnlyTensorSpan{float}, in TensorSpan{TOutput}, in TensorSpan{float}, ReadOnlySpan{float})"/>
    public static void Merge<TPartial, TOutput>(
        Tensor<TPartial> partialOutputs,
        Tensor<float> partialLogSumExps,
        Tensor<TOutput> output,
        Tensor<float>? logSumExp = null,
        ReadOnlySpan<float> sinkLogits = default)
        where TPartial : unmanaged
        where TOutput : unmanaged
        => throw new NotSupportedException();
}
