using System.Numerics.Tensors;
using FusedAttention.Cpu;
using FusedAttention.Problems;
using FusedAttention.Tensors;

namespace FusedAttention;

/// <summary>
/// Exact attention, <c>softmax(Scale * query * key^T) * value</c>, with an online softmax: the score matrix is never stored
/// (Milakov and Gimelshein 2018, arXiv:1805.02867; Dao et al. 2022, arXiv:2205.14135).
/// </summary>
/// <remarks>
/// <para>Element types: query and output are <see cref="float"/>, <see cref="Half"/> or <see cref="BFloat16"/>; key and value have the type of the query, or
/// are <see cref="Half"/> or <see cref="BFloat16"/> under <see cref="float"/> queries, or under any query have 8 bits: <see cref="sbyte"/> or <see cref="Float8E4M3"/> with scales beside them
/// (<see cref="AttentionOperands.KeyScale"/>), or <see cref="Q8Block"/>. Sums are always 32-bit.</para>
/// <para>Query heads are a multiple of key/value heads; query head <c>h</c> uses key/value head <c>h / (heads / kvHeads)</c>.</para>
/// <para>A row without an allowed key gives zeros, never NaN; so does one whose allowed keys all score negative infinity. Keys and values at places that no query of the call may see by position, length
/// or page are never read, and what a row may not see cannot change a bit of its result, whatever it holds. What it sees follows IEEE arithmetic.</para>
/// <para>All methods may be called from any number of threads at once. On an exception about an argument the outputs are untouched.</para>
/// </remarks>
public static unsafe partial class Attention
{
    /// <summary>Attention on tensor spans <c>[batch, token, head, dim]</c>: tokens before heads, unlike PyTorch and ONNX, whose tensors are permuted first (<c>Tensor.PermuteDimensions(query, [0, 2, 1, 3])</c>, a view).</summary>
    /// <typeparam name="TQuery">Element type of query and output.</typeparam>
    /// <typeparam name="TKeyValue">Element type of key and value.</typeparam>
    /// <param name="query"><c>[batch, queries, heads, keyDim]</c> or <c>[queries, heads, keyDim]</c>; any strides with a contiguous last dimension.</param>
    /// <param name="key"><c>[batch, keys, kvHeads, keyDim]</c>, of the rank of <paramref name="query"/>.</param>
    /// <param name="value"><c>[batch, keys, kvHeads, valueDim]</c>, of the rank of <paramref name="query"/>.</param>
    /// <param name="output"><c>[batch, queries, heads, valueDim]</c>, of the rank of <paramref name="query"/>; must not overlap an input or itself.</param>
    /// <param name="options">Scale, mask and the rest; null for <see cref="AttentionOptions.Default"/>.</param>
    /// <param name="operands">Boolean mask, bias, key lengths, query offsets, log-sum-exp output.</param>
    /// <param name="execution">Threads and instruction set; null for <see cref="CpuExecution.Default"/>.</param>
    /// <param name="cancellationToken">Cancels the call between pieces of its work.</param>
    /// <exception cref="ArgumentException">A shape, stride, length, type or overlap is not as described; the message has the numbers.</exception>
    /// <exception cref="PlatformNotSupportedException">The instruction set that <paramref name="execution"/> names is not available.</exception>
    /// <exception cref="OperationCanceledException"><paramref name="cancellationToken"/> was cancelled; the output is undefined.</exception>
    public static void Forward<TQuery, TKeyValue>(
        scoped in ReadOnlyTensorSpan<TQuery> query,
        scoped in ReadOnlyTensorSpan<TKeyValue> key,
        scoped in ReadOnlyTensorSpan<TKeyValue> value,
        scoped in TensorSpan<TQuery> output,
        AttentionOptions? options = null,
        scoped in AttentionOperands operands = default,
        CpuExecution? execution = null,
        CancellationToken cancellationToken = default)
        where TQuery : unmanaged
        where TKeyValue : unmanaged
    {
        fixed (TQuery* q = query)
        fixed (TKeyValue* k = key)
        fixed (TKeyValue* v = value)
        fixed (TQuery* o = output)
        {
            ForwardDense(
                TensorArgument.Of(q, TensorLayout.Of(query), nameof(query)), TensorArgument.OfKeyValue(k, TensorLayout.Of(key), nameof(key)),
                TensorArgument.OfKeyValue(v, TensorLayout.Of(value), nameof(value)), TensorArgument.Of(o, TensorLayout.Of(output), nameof(output)), options, operands, execution, cancellationToken);
        }
    }

    /// <summary>Attention on tensors <c>[batch, token, head, dim]</c>: tokens before heads, unlike PyTorch and ONNX, whose tensors are permuted first (<c>Tensor.PermuteDimensions(query, [0, 2, 1, 3])</c>, a view).</summary>
    /// <inheritdoc cref="Forward{TQuery, TKeyValue}(in ReadOnlyTensorSpan{TQuery}, in ReadOnlyTensorSpan{TKeyValue}, in ReadOnlyTensorSpan{TKeyValue}, in TensorSpan{TQuery}, AttentionOptions, in AttentionOperands, CpuExecution, CancellationToken)"/>
    public static void Forward<TQuery, TKeyValue>(
        Tensor<TQuery> query,
        Tensor<TKeyValue> key,
        Tensor<TKeyValue> value,
        Tensor<TQuery> output,
        AttentionOptions? options = null,
        scoped in AttentionOperands operands = default,
        CpuExecution? execution = null,
        CancellationToken cancellationToken = default)
        where TQuery : unmanaged
        where TKeyValue : unmanaged
    {
        ThrowIfNull(query, key, nameof(key), value, nameof(value), output);
        Forward(query.AsReadOnlyTensorSpan(), key.AsReadOnlyTensorSpan(), value.AsReadOnlyTensorSpan(), output.AsTensorSpan(), options, operands, execution, cancellationToken);
    }

    /// <summary>Attention on plain spans with an explicit shape: <c>[batch, token, head, dim]</c>, or by its strides any other order (<see cref="AttentionStrides.HeadMajor"/> for <c>[batch, head, token, dim]</c>).</summary>
    /// <param name="query">Query elements, laid out as <paramref name="shape"/> says.</param>
    /// <param name="key">Key elements.</param>
    /// <param name="value">Value elements.</param>
    /// <param name="output">Output elements; must not overlap an input.</param>
    /// <param name="shape">Sizes and, if not contiguous, strides.</param>
    /// <param name="options">Scale, mask and the rest; null for <see cref="AttentionOptions.Default"/>.</param>
    /// <param name="operands">Boolean mask, bias, key lengths, query offsets, log-sum-exp output.</param>
    /// <param name="execution">Threads and instruction set; null for <see cref="CpuExecution.Default"/>.</param>
    /// <param name="cancellationToken">Cancels the call between pieces of its work.</param>
    /// <inheritdoc cref="Forward{TQuery, TKeyValue}(in ReadOnlyTensorSpan{TQuery}, in ReadOnlyTensorSpan{TKeyValue}, in ReadOnlyTensorSpan{TKeyValue}, in TensorSpan{TQuery}, AttentionOptions, in AttentionOperands, CpuExecution, CancellationToken)"/>
    public static void Forward<TQuery, TKeyValue>(
        ReadOnlySpan<TQuery> query,
        ReadOnlySpan<TKeyValue> key,
        ReadOnlySpan<TKeyValue> value,
        Span<TQuery> output,
        in AttentionShape shape,
        AttentionOptions? options = null,
        scoped in AttentionOperands operands = default,
        CpuExecution? execution = null,
        CancellationToken cancellationToken = default)
        where TQuery : unmanaged
        where TKeyValue : unmanaged
    {
        ShapeLayouts layouts = ShapeLayouts.Of<TKeyValue>(shape);
        ShapeLayouts.CheckLength(query.Length, layouts.Query, "query");
        ShapeLayouts.CheckLength(key.Length, layouts.Key, "key");
        ShapeLayouts.CheckLength(value.Length, layouts.Value, "value");
        ShapeLayouts.CheckLength(output.Length, layouts.Output, "output");
        fixed (TQuery* q = query)
        fixed (TKeyValue* k = key)
        fixed (TKeyValue* v = value)
        fixed (TQuery* o = output)
        {
            ForwardDense(
                TensorArgument.Of(q, layouts.Query, nameof(query)), TensorArgument.OfKeyValue(k, layouts.Key, nameof(key)),
                TensorArgument.OfKeyValue(v, layouts.Value, nameof(value)), TensorArgument.Of(o, layouts.Output, nameof(output)), options, operands, execution, cancellationToken);
        }
    }

    /// <summary>
    /// Attention on pointers with an explicit shape, <c>[batch, token, head, dim]</c> or by its strides any other order, for memory beyond 2^31 elements or outside the managed heap. That the pointers reach as far as the
    /// shape says is the caller's contract.
    /// </summary>
    /// <param name="query">First query element.</param>
    /// <param name="key">First key element.</param>
    /// <param name="value">First value element.</param>
    /// <param name="output">First output element; must not overlap an input.</param>
    /// <param name="shape">Sizes and, if not contiguous, strides.</param>
    /// <param name="options">Scale, mask and the rest; null for <see cref="AttentionOptions.Default"/>.</param>
    /// <param name="operands">Boolean mask, bias, key lengths, query offsets, log-sum-exp output.</param>
    /// <param name="execution">Threads and instruction set; null for <see cref="CpuExecution.Default"/>.</param>
    /// <param name="cancellationToken">Cancels the call between pieces of its work.</param>
    /// <inheritdoc cref="Forward{TQuery, TKeyValue}(in ReadOnlyTensorSpan{TQuery}, in ReadOnlyTensorSpan{TKeyValue}, in ReadOnlyTensorSpan{TKeyValue}, in TensorSpan{TQuery}, AttentionOptions, in AttentionOperands, CpuExecution, CancellationToken)"/>
    public static void Forward<TQuery, TKeyValue>(
        TQuery* query,
        TKeyValue* key,
        TKeyValue* value,
        TQuery* output,
        in AttentionShape shape,
        AttentionOptions? options = null,
        scoped in AttentionOperands operands = default,
        CpuExecution? execution = null,
        CancellationToken cancellationToken = default)
        where TQuery : unmanaged
        where TKeyValue : unmanaged
    {
        ShapeLayouts layouts = ShapeLayouts.Of<TKeyValue>(shape);
        ShapeLayouts.CheckPointer(query, layouts.Query, "query");
        ShapeLayouts.CheckPointer(key, layouts.Key, "key");
        ShapeLayouts.CheckPointer(value, layouts.Value, "value");
        ShapeLayouts.CheckPointer(output, layouts.Output, "output");
        ForwardDense(
            TensorArgument.Of(query, layouts.Query, nameof(query)), TensorArgument.OfKeyValue(key, layouts.Key, nameof(key)),
            TensorArgument.OfKeyValue(value, layouts.Value, nameof(value)), TensorArgument.Of(output, layouts.Output, nameof(output)), options, operands, execution, cancellationToken);
    }

    /// <summary>Attention on sequences of different lengths, packed one after the other: <c>[total tokens, head, dim]</c>.</summary>
    /// <typeparam name="TQuery">Element type of query and output.</typeparam>
    /// <typeparam name="TKeyValue">Element type of key and value.</typeparam>
    /// <param name="query"><c>[total queries, heads, keyDim]</c>.</param>
    /// <param name="key"><c>[total keys, kvHeads, keyDim]</c>.</param>
    /// <param name="value"><c>[total keys, kvHeads, valueDim]</c>.</param>
    /// <param name="output"><c>[total queries, heads, valueDim]</c>; must not overlap an input or itself.</param>
    /// <param name="cumulativeQueryLengths">Sequences + 1 ascending numbers from 0 to total queries: sequence s owns rows [s] to [s + 1].</param>
    /// <param name="cumulativeKeyLengths">The same for keys.</param>
    /// <param name="options">Scale, mask and the rest; null for <see cref="AttentionOptions.Default"/>.</param>
    /// <param name="operands">Boolean mask, bias, query offsets, log-sum-exp output.</param>
    /// <param name="execution">Threads and instruction set; null for <see cref="CpuExecution.Default"/>.</param>
    /// <param name="cancellationToken">Cancels the call between pieces of its work.</param>
    /// <exception cref="ArgumentException">A shape, stride, length, type or overlap is not as described; the message has the numbers.</exception>
    /// <exception cref="PlatformNotSupportedException">The instruction set that <paramref name="execution"/> names is not available.</exception>
    /// <exception cref="OperationCanceledException"><paramref name="cancellationToken"/> was cancelled; the output is undefined.</exception>
    public static void ForwardVariableLength<TQuery, TKeyValue>(
        scoped in ReadOnlyTensorSpan<TQuery> query,
        scoped in ReadOnlyTensorSpan<TKeyValue> key,
        scoped in ReadOnlyTensorSpan<TKeyValue> value,
        scoped in TensorSpan<TQuery> output,
        ReadOnlySpan<int> cumulativeQueryLengths,
        ReadOnlySpan<int> cumulativeKeyLengths,
        AttentionOptions? options = null,
        scoped in AttentionOperands operands = default,
        CpuExecution? execution = null,
        CancellationToken cancellationToken = default)
        where TQuery : unmanaged
        where TKeyValue : unmanaged
    {
        fixed (TQuery* q = query)
        fixed (TKeyValue* k = key)
        fixed (TKeyValue* v = value)
        fixed (TQuery* o = output)
        fixed (bool* mask = operands.BooleanMask)
        fixed (byte* bias = operands.Bias)
        fixed (float* logSumExp = operands.LogSumExp)
        fixed (float* keyScale = operands.KeyScale)
        fixed (float* valueScale = operands.ValueScale)
        {
            CallTensors tensors = CallTensors.Of(
                TensorArgument.Of(q, TensorLayout.Of(query), nameof(query)), TensorArgument.OfKeyValue(k, TensorLayout.Of(key), nameof(key)),
                TensorArgument.OfKeyValue(v, TensorLayout.Of(value), nameof(value)), TensorArgument.Of(o, TensorLayout.Of(output), nameof(output))).With(mask, bias, logSumExp, operands, keyScale, valueScale);
            options ??= AttentionOptions.Default;
            CpuCall call = CpuCall.Rent();
            try
            {
                ProblemBuilder.Packed(call.Problem, tensors, cumulativeQueryLengths, cumulativeKeyLengths, options, operands);
                call.Run(options.Resolve(execution, cancellationToken));
            }
            finally
            {
                call.Return();
            }
        }
    }

    /// <summary>Attention on sequences of different lengths, packed one after the other, on tensors <c>[total tokens, head, dim]</c>.</summary>
    /// <inheritdoc cref="ForwardVariableLength{TQuery, TKeyValue}(in ReadOnlyTensorSpan{TQuery}, in ReadOnlyTensorSpan{TKeyValue}, in ReadOnlyTensorSpan{TKeyValue}, in TensorSpan{TQuery}, ReadOnlySpan{int}, ReadOnlySpan{int}, AttentionOptions, in AttentionOperands, CpuExecution, CancellationToken)"/>
    public static void ForwardVariableLength<TQuery, TKeyValue>(
        Tensor<TQuery> query,
        Tensor<TKeyValue> key,
        Tensor<TKeyValue> value,
        Tensor<TQuery> output,
        ReadOnlySpan<int> cumulativeQueryLengths,
        ReadOnlySpan<int> cumulativeKeyLengths,
        AttentionOptions? options = null,
        scoped in AttentionOperands operands = default,
        CpuExecution? execution = null,
        CancellationToken cancellationToken = default)
        where TQuery : unmanaged
        where TKeyValue : unmanaged
    {
        ThrowIfNull(query, key, nameof(key), value, nameof(value), output);
        ForwardVariableLength(
            query.AsReadOnlyTensorSpan(), key.AsReadOnlyTensorSpan(), value.AsReadOnlyTensorSpan(), output.AsTensorSpan(),
            cumulativeQueryLengths, cumulativeKeyLengths, options, operands, execution, cancellationToken);
    }

    /// <summary>
    /// Attention of packed queries, <c>[total queries, heads, keyDim]</c>, over a paged key/value cache (Kwon et al. 2023, arXiv:2309.06180): any number of query tokens a sequence, so that decoding, chunked prefill and
    /// whole prefills mix in one call; any block size from 1.
    /// </summary>
    /// <typeparam name="TQuery">Element type of query and output.</typeparam>
    /// <typeparam name="TKeyValue">Element type of the caches.</typeparam>
    /// <param name="query"><c>[total queries, heads, keyDim]</c>.</param>
    /// <param name="keyCache"><c>[blocks, blockSize, kvHeads, keyDim]</c>.</param>
    /// <param name="valueCache"><c>[blocks, blockSize, kvHeads, valueDim]</c>.</param>
    /// <param name="output"><c>[total queries, heads, valueDim]</c>; must not overlap an input or itself.</param>
    /// <param name="sequences">Query lengths, context lengths and block tables.</param>
    /// <param name="options">Scale, mask and the rest; null for <see cref="AttentionOptions.Default"/>.</param>
    /// <param name="operands">Boolean mask, bias, query offsets, log-sum-exp output.</param>
    /// <param name="execution">Threads and instruction set; null for <see cref="CpuExecution.Default"/>.</param>
    /// <param name="cancellationToken">Cancels the call between pieces of its work.</param>
    /// <exception cref="ArgumentException">A shape, stride, length, block id, type or overlap is not as described; the message has the numbers.</exception>
    /// <exception cref="PlatformNotSupportedException">The instruction set that <paramref name="execution"/> names is not available.</exception>
    /// <exception cref="OperationCanceledException"><paramref name="cancellationToken"/> was cancelled; the output is undefined.</exception>
    public static void ForwardPaged<TQuery, TKeyValue>(
        scoped in ReadOnlyTensorSpan<TQuery> query,
        scoped in ReadOnlyTensorSpan<TKeyValue> keyCache,
        scoped in ReadOnlyTensorSpan<TKeyValue> valueCache,
        scoped in TensorSpan<TQuery> output,
        scoped in PagedSequences sequences,
        AttentionOptions? options = null,
        scoped in AttentionOperands operands = default,
        CpuExecution? execution = null,
        CancellationToken cancellationToken = default)
        where TQuery : unmanaged
        where TKeyValue : unmanaged
    {
        fixed (TQuery* q = query)
        fixed (TKeyValue* k = keyCache)
        fixed (TKeyValue* v = valueCache)
        fixed (TQuery* o = output)
        fixed (int* tables = sequences.BlockTables)
        fixed (bool* mask = operands.BooleanMask)
        fixed (byte* bias = operands.Bias)
        fixed (float* logSumExp = operands.LogSumExp)
        fixed (float* keyScale = operands.KeyScale)
        fixed (float* valueScale = operands.ValueScale)
        {
            CallTensors tensors = CallTensors.Of(
                TensorArgument.Of(q, TensorLayout.Of(query), nameof(query)), TensorArgument.OfKeyValue(k, TensorLayout.Of(keyCache), nameof(keyCache)),
                TensorArgument.OfKeyValue(v, TensorLayout.Of(valueCache), nameof(valueCache)), TensorArgument.Of(o, TensorLayout.Of(output), nameof(output))).With(mask, bias, logSumExp, operands, keyScale, valueScale);
            options ??= AttentionOptions.Default;
            CpuCall call = CpuCall.Rent();
            try
            {
                ProblemBuilder.Paged(call.Problem, tensors, sequences, tables, options, operands);
                call.Run(options.Resolve(execution, cancellationToken));
            }
            finally
            {
                call.Return();
            }
        }
    }

    /// <summary>Attention over a paged key/value cache, on tensors: queries <c>[total queries, heads, keyDim]</c>, caches <c>[blocks, blockSize, kvHeads, dim]</c>.</summary>
    /// <inheritdoc cref="ForwardPaged{TQuery, TKeyValue}(in ReadOnlyTensorSpan{TQuery}, in ReadOnlyTensorSpan{TKeyValue}, in ReadOnlyTensorSpan{TKeyValue}, in TensorSpan{TQuery}, in PagedSequences, AttentionOptions, in AttentionOperands, CpuExecution, CancellationToken)"/>
    public static void ForwardPaged<TQuery, TKeyValue>(
        Tensor<TQuery> query,
        Tensor<TKeyValue> keyCache,
        Tensor<TKeyValue> valueCache,
        Tensor<TQuery> output,
        scoped in PagedSequences sequences,
        AttentionOptions? options = null,
        scoped in AttentionOperands operands = default,
        CpuExecution? execution = null,
        CancellationToken cancellationToken = default)
        where TQuery : unmanaged
        where TKeyValue : unmanaged
    {
        ThrowIfNull(query, keyCache, nameof(keyCache), valueCache, nameof(valueCache), output);
        ForwardPaged(
            query.AsReadOnlyTensorSpan(), keyCache.AsReadOnlyTensorSpan(), valueCache.AsReadOnlyTensorSpan(), output.AsTensorSpan(), sequences, options, operands, execution, cancellationToken);
    }

    private static void ThrowIfNull(object query, object key, string keyName, object value, string valueName, object output)
    {
        ArgumentNullException.ThrowIfNull(query);
        ArgumentNullException.ThrowIfNull(key, keyName);
        ArgumentNullException.ThrowIfNull(value, valueName);
        ArgumentNullException.ThrowIfNull(output);
    }

    private static void ForwardDense(
        in TensorArgument query, in TensorArgument key, in TensorArgument value, in TensorArgument output, AttentionOptions? options, scoped in AttentionOperands operands, CpuExecution? execution,
        CancellationToken cancellationToken)
    {
        fixed (bool* mask = operands.BooleanMask)
        fixed (byte* bias = operands.Bias)
        fixed (float* logSumExp = operands.LogSumExp)
        fixed (float* keyScale = operands.KeyScale)
        fixed (float* valueScale = operands.ValueScale)
        {
            CallTensors tensors = CallTensors.Of(query, key, value, output).With(mask, bias, logSumExp, operands, keyScale, valueScale);
            options ??= AttentionOptions.Default;
            CpuCall call = CpuCall.Rent();
            try
            {
                ProblemBuilder.Dense(call.Problem, tensors, options, operands);
                call.Run(options.Resolve(execution, cancellationToken));
            }
            finally
            {
                call.Return();
            }
        }
    }
}
