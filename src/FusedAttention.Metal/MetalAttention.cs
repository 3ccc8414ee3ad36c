using FusedAttention.Metal.Calls;
using FusedAttention.Problems;

namespace FusedAttention;

/// <summary>
/// Exact attention on a Metal device: the calls of <see cref="Attention"/>, with the same shapes, options, semantics and errors, on tensors of the device.
/// </summary>
/// <remarks>
/// <para>A call checks everything, queues its work and returns; the results are there when an output's elements are touched (<see cref="MetalTensor{T}"/>) or after
/// <see cref="MetalDevice.Synchronize"/>. Calls on one device run in the order in which they were made, and each sees what the ones before it wrote, so the output of one can be the input of the next
/// without waiting. Arrays and spans of lengths, offsets and block tables are read during the call; tensors may be disposed as soon as it has returned.</para>
/// <para>The first call of a kind compiles its kernels (0.1 s to some seconds): <see cref="Prepare{TQuery, TKeyValue}(MetalDevice, in AttentionShape, AttentionOptions, OperandKinds)"/> does that
/// ahead.</para>
/// <para>Options of the CPU: <see cref="AttentionOptions.InstructionSet"/> must be <see cref="CpuInstructionSet.Auto"/>; <see cref="AttentionOptions.MaxDegreeOfParallelism"/>, which never changes a
/// result, has no effect; <see cref="AttentionOptions.CancellationToken"/> is looked at before the work is queued, and not after.</para>
/// <para>On an exception about an argument the outputs are untouched. Results differ from those of the CPU in the last bits, because sums are taken in another order.</para>
/// <para>All methods may be called from any number of threads at once.</para>
/// </remarks>
public static unsafe partial class MetalAttention
{
    /// <summary>Attention on dense tensors <c>[batch, token, head, dim]</c>: tokens before heads, unlike PyTorch and ONNX, whose order is a <see cref="MetalTensor{T}.View"/> with strides.</summary>
    /// <typeparam name="TQuery">Element type of query and output: <see cref="float"/>, <see cref="Half"/> or <see cref="BFloat16"/>.</typeparam>
    /// <typeparam name="TKeyValue">Element type of key and value: that of the query, or <see cref="Half"/> or <see cref="BFloat16"/> under <see cref="float"/> queries, or <see cref="sbyte"/> or <see cref="Float8E4M3"/> under any.</typeparam>
    /// <param name="query"><c>[batch, queries, heads, keyDim]</c> or <c>[queries, heads, keyDim]</c>; any strides with a contiguous last dimension.</param>
    /// <param name="key"><c>[batch, keys, kvHeads, keyDim]</c>, of the rank of <paramref name="query"/>.</param>
    /// <param name="value"><c>[batch, keys, kvHeads, valueDim]</c>, of the rank of <paramref name="query"/>.</param>
    /// <param name="output"><c>[batch, queries, heads, valueDim]</c>, of the rank of <paramref name="query"/>; must not overlap an input or itself.</param>
    /// <param name="options">Scale, mask and the rest; null for <see cref="AttentionOptions.Default"/>.</param>
    /// <param name="operands">Boolean mask, bias, key lengths, query offsets, log-sum-exp output.</param>
    /// <param name="cancellationToken">Cancels the call until its work is queued, and not after.</param>
    /// <exception cref="ArgumentException">A shape, stride, length, type or overlap is not as described, or the tensors belong to different devices; the message has the numbers.</exception>
    /// <exception cref="NotSupportedException">No kernel takes these dimensions or types (<see cref="Q8Block"/>, or a score function over keys of 8 bits), scale, soft cap or a slope is beyond what 32-bit arithmetic is trusted with, or functions have more than 16 tables (14 over keys of 8 bits) or 64 parameters; the message has the number and its limits.</exception>
    /// <exception cref="MetalException">A kernel does not compile, or the device gives no memory. What fails on the GPU later is thrown by what waits for it.</exception>
    /// <exception cref="ObjectDisposedException">A tensor is disposed.</exception>
    /// <exception cref="OperationCanceledException"><paramref name="cancellationToken"/> was cancelled before the work was queued.</exception>
    public static void Forward<TQuery, TKeyValue>(
        MetalTensor<TQuery> query,
        MetalTensor<TKeyValue> key,
        MetalTensor<TKeyValue> value,
        MetalTensor<TQuery> output,
        AttentionOptions? options = null,
        scoped in MetalOperands operands = default,
        CancellationToken cancellationToken = default)
        where TQuery : unmanaged
        where TKeyValue : unmanaged
    {
        using AttentionCall call = AttentionCall.Of(query, key, nameof(key), value, nameof(value), output, operands);
        options ??= AttentionOptions.Default;
        ProblemBuilder.Dense(call.Problem, call.Tensors, options, AttentionCall.LengthsOf(operands));
        call.Queue(options.Resolve(null, cancellationToken).CancellationToken);
    }

    /// <summary>Attention on sequences of different lengths, packed one after the other: <c>[total tokens, head, dim]</c>.</summary>
    /// <param name="query"><c>[total queries, heads, keyDim]</c>.</param>
    /// <param name="key"><c>[total keys, kvHeads, keyDim]</c>.</param>
    /// <param name="value"><c>[total keys, kvHeads, valueDim]</c>.</param>
    /// <param name="output"><c>[total queries, heads, valueDim]</c>; must not overlap an input or itself.</param>
    /// <param name="cumulativeQueryLengths">Sequences + 1 ascending numbers from 0 to total queries: sequence s owns rows [s] to [s + 1].</param>
    /// <param name="cumulativeKeyLengths">The same for keys.</param>
    /// <param name="options">Scale, mask and the rest; null for <see cref="AttentionOptions.Default"/>.</param>
    /// <param name="operands">Boolean mask, bias, query offsets, log-sum-exp output.</param>
    /// <param name="cancellationToken">Cancels the call until its work is queued, and not after.</param>
    /// <inheritdoc cref="Forward{TQuery, TKeyValue}(MetalTensor{TQuery}, MetalTensor{TKeyValue}, MetalTensor{TKeyValue}, MetalTensor{TQuery}, AttentionOptions, in MetalOperands, CancellationToken)"/>
    public static void ForwardVariableLength<TQuery, TKeyValue>(
        MetalTensor<TQuery> query,
        MetalTensor<TKeyValue> key,
        MetalTensor<TKeyValue> value,
        MetalTensor<TQuery> output,
        ReadOnlySpan<int> cumulativeQueryLengths,
        ReadOnlySpan<int> cumulativeKeyLengths,
        AttentionOptions? options = null,
        scoped in MetalOperands operands = default,
        CancellationToken cancellationToken = default)
        where TQuery : unmanaged
        where TKeyValue : unmanaged
    {
        using AttentionCall call = AttentionCall.Of(query, key, nameof(key), value, nameof(value), output, operands);
        options ??= AttentionOptions.Default;
        ProblemBuilder.Packed(call.Problem, call.Tensors, cumulativeQueryLengths, cumulativeKeyLengths, options, AttentionCall.LengthsOf(operands));
        call.Queue(options.Resolve(null, cancellationToken).CancellationToken);
    }

    /// <summary>
    /// Attention of packed queries, <c>[total queries, heads, keyDim]</c>, over a paged key/value cache (Kwon et al. 2023, arXiv:2309.06180): any number of query tokens a sequence, so that decoding, chunked prefill and
    /// whole prefills mix in one call; any block size from 1. <see cref="MetalPagedKeyValueCache{T}"/> has the tensors.
    /// </summary>
    /// <param name="query"><c>[total queries, heads, keyDim]</c>.</param>
    /// <param name="keyCache"><c>[blocks, blockSize, kvHeads, keyDim]</c>.</param>
    /// <param name="valueCache"><c>[blocks, blockSize, kvHeads, valueDim]</c>.</param>
    /// <param name="output"><c>[total queries, heads, valueDim]</c>; must not overlap an input or itself.</param>
    /// <param name="sequences">Query lengths, context lengths and block tables; checked and copied during the call.</param>
    /// <param name="options">Scale, mask and the rest; null for <see cref="AttentionOptions.Default"/>.</param>
    /// <param name="operands">Boolean mask, bias, query offsets, log-sum-exp output.</param>
    /// <param name="cancellationToken">Cancels the call until its work is queued, and not after.</param>
    /// <inheritdoc cref="Forward{TQuery, TKeyValue}(MetalTensor{TQuery}, MetalTensor{TKeyValue}, MetalTensor{TKeyValue}, MetalTensor{TQuery}, AttentionOptions, in MetalOperands, CancellationToken)"/>
    public static void ForwardPaged<TQuery, TKeyValue>(
        MetalTensor<TQuery> query,
        MetalTensor<TKeyValue> keyCache,
        MetalTensor<TKeyValue> valueCache,
        MetalTensor<TQuery> output,
        scoped in PagedSequences sequences,
        AttentionOptions? options = null,
        scoped in MetalOperands operands = default,
        CancellationToken cancellationToken = default)
        where TQuery : unmanaged
        where TKeyValue : unmanaged
    {
        using AttentionCall call = AttentionCall.Of(query, keyCache, nameof(keyCache), valueCache, nameof(valueCache), output, operands);
        options ??= AttentionOptions.Default;
        fixed (int* tables = sequences.BlockTables)
        {
            ProblemBuilder.Paged(call.Problem, call.Tensors, sequences, tables, options, AttentionCall.LengthsOf(operands));
            call.Queue(options.Resolve(null, cancellationToken).CancellationToken);
        }
    }
}
