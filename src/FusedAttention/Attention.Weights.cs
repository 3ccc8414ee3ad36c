using System.Numerics.Tensors;
using FusedAttention.Cpu;
using FusedAttention.Problems;
using FusedAttention.Tensors;

namespace FusedAttention;

public static unsafe partial class Attention
{
    /// <summary>
    /// The attention weights of one row of a dense call on tensor spans <c>[batch, tokens, heads, dim]</c>, for looking into a model: what <see cref="Forward{TQuery, TKeyValue}(Tensor{TQuery}, Tensor{TKeyValue}, Tensor{TKeyValue}, Tensor{TQuery}, AttentionOptions, in AttentionOperands, CpuExecution, CancellationToken)"/>
    /// multiplies values by and never stores.
    /// </summary>
    /// <remarks>In double precision, key by key, on the calling thread: slow, on purpose. Weights sum to 1, less the sink's share; all are 0 for a row that sees no key.</remarks>
    /// <typeparam name="TQuery">Element type of the query.</typeparam>
    /// <typeparam name="TKeyValue">Element type of the key.</typeparam>
    /// <param name="query"><c>[batch, queries, heads, keyDim]</c>, or <c>[queries, heads, keyDim]</c> for one sequence: as in the call.</param>
    /// <param name="key"><c>[batch, keys, kvHeads, keyDim]</c>, or without the batch dimension.</param>
    /// <param name="batchIndex">Which sequence; 0 where there is no batch dimension.</param>
    /// <param name="queryIndex">Which of its queries.</param>
    /// <param name="head">Which query head.</param>
    /// <param name="weights">Receives one weight for each key: as many as <paramref name="key"/> has.</param>
    /// <param name="options">Scale, mask and the rest; null for <see cref="AttentionOptions.Default"/>.</param>
    /// <param name="operands">Boolean mask, bias, key lengths, query offsets; a log-sum-exp output is left alone.</param>
    /// <exception cref="ArgumentOutOfRangeException">There is no such sequence, query or head.</exception>
    /// <exception cref="ArgumentException">A shape, stride or type is not as described; the message has the numbers.</exception>
    public static void GetWeights<TQuery, TKeyValue>(
        scoped in ReadOnlyTensorSpan<TQuery> query,
        scoped in ReadOnlyTensorSpan<TKeyValue> key,
        int batchIndex,
        int queryIndex,
        int head,
        Span<double> weights,
        AttentionOptions? options = null,
        scoped in AttentionOperands operands = default)
        where TQuery : unmanaged
        where TKeyValue : unmanaged
    {
        options ??= AttentionOptions.Default;
        TensorLayout queries = TensorLayout.Of(query), keys = TensorLayout.Of(key);
        fixed (TQuery* q = query)
        fixed (TKeyValue* k = key)
        fixed (bool* mask = operands.BooleanMask)
        fixed (byte* bias = operands.Bias)
        fixed (float* keyScale = operands.KeyScale)
        {
            // Values as wide as keys, and an output as wide as queries, neither of which is anywhere: the row ends before it needs them.
            AttentionOperands read = operands;
            read.LogSumExp = default;
            read.ValueScale = default;
            CallTensors tensors = CallTensors.Of(
                TensorArgument.Of(q, queries, nameof(query)), TensorArgument.OfKeyValue(k, keys, nameof(key)), TensorArgument.OfKeyValue<TKeyValue>(null, keys, nameof(key)), TensorArgument.Of<TQuery>(null, Packed(queries), nameof(query)))
                .With(mask, bias, null, read, keyScale);
            var problem = new AttentionProblem();
            ProblemBuilder.Dense(problem, tensors, options, read);
            CheckIndex(batchIndex, problem.SequenceCount, nameof(batchIndex), "sequences");
            ref readonly SequenceProblem sequence = ref problem.Sequences[batchIndex];
            CheckIndex(queryIndex, sequence.QueryLength, nameof(queryIndex), "queries");
            CheckIndex(head, problem.QueryHeads, nameof(head), "query heads");
            int keyLength = (int)keys.Lengths[^3];
            if (weights.Length != keyLength) throw new ArgumentException($"weights has {weights.Length} elements; expected one for each of {keyLength} keys.", nameof(weights));
            CpuKernels kernels = KernelSelector.Select(CpuInstructionSet.Auto);
            kernels.Bind(problem);
            kernels.Weigh(problem, sequence, queryIndex, head, weights);
        }
    }

    /// <summary>The attention weights of one row of a dense call on tensors <c>[batch, tokens, heads, dim]</c>, for looking into a model.</summary>
    /// <inheritdoc cref="GetWeights{TQuery, TKeyValue}(in ReadOnlyTensorSpan{TQuery}, in ReadOnlyTensorSpan{TKeyValue}, int, int, int, Span{double}, AttentionOptions, in AttentionOperands)"/>
    public static void GetWeights<TQuery, TKeyValue>(
        Tensor<TQuery> query,
        Tensor<TKeyValue> key,
        int batchIndex,
        int queryIndex,
        int head,
        Span<double> weights,
        AttentionOptions? options = null,
        scoped in AttentionOperands operands = default)
        where TQuery : unmanaged
        where TKeyValue : unmanaged
    {
        ArgumentNullException.ThrowIfNull(query);
        ArgumentNullException.ThrowIfNull(key);
        GetWeights(query.AsReadOnlyTensorSpan(), key.AsReadOnlyTensorSpan(), batchIndex, queryIndex, head, weights, options, operands);
    }

    private static void CheckIndex(int index, int count, string name, string what)
    {
        if ((uint)index >= (uint)count) throw new ArgumentOutOfRangeException(name, index, $"{name} must be from 0 to {count - 1}: there are {count} {what}.");
    }

    /// <summary>A layout of the same lengths without gaps, which overlaps nothing.</summary>
    private static TensorLayout Packed(in TensorLayout layout)
    {
        Span<nint> lengths = stackalloc nint[Math.Min(layout.Rank, TensorLayout.MaxRank)], strides = stackalloc nint[lengths.Length];
        nint stride = 1;
        for (int i = lengths.Length - 1; i >= 0; i--)
        {
            lengths[i] = (nint)layout.Lengths[i];
            strides[i] = stride;
            stride *= lengths[i];
        }

        return TensorLayout.Of(lengths, strides);
    }
}
