using System.Numerics.Tensors;
using FusedAttention.Cpu.Planning;
using FusedAttention.Problems;
using FusedAttention.Tensors;

namespace FusedAttention;

public static partial class Attention
{
    /// <summary>
    /// Compiles and starts what a dense call of this shape needs, so that the first such call takes about as long as the second: the runtime compiles kernels when they first run (75 to 150 ms of a processor), and threads are started
    /// then.
    /// </summary>
    /// <remarks>A call over zeros that runs the same kernels, cut down to some hundred keys, is made and thrown away; once everything is compiled it takes a millisecond. Meter and event source see it.</remarks>
    /// <typeparam name="TQuery">Element type of query and output.</typeparam>
    /// <typeparam name="TKeyValue">Element type of key and value.</typeparam>
    /// <param name="shape">
    /// The sizes of the call, query <c>[Batch, QueryLength, QueryHeads, KeyDim]</c>, key <c>[Batch, KeyLength, KeyValueHeads, KeyDim]</c>, and strides. Prefill and decode have kernels of their own: prepare both.
    /// </param>
    /// <param name="options">The options of the call.</param>
    /// <param name="execution">Threads and instruction set of the call; null for <see cref="CpuExecution.Default"/>.</param>
    /// <param name="operands">The optional tensors that the call will have.</param>
    /// <exception cref="ArgumentException">The shape, the types or the options cannot be computed on.</exception>
    /// <exception cref="PlatformNotSupportedException">The instruction set that <paramref name="execution"/> names is not available.</exception>
    public static void Prepare<TQuery, TKeyValue>(in AttentionShape shape, AttentionOptions? options = null, CpuExecution? execution = null, OperandKinds operands = OperandKinds.None)
        where TQuery : unmanaged
        where TKeyValue : unmanaged
    {
        options ??= AttentionOptions.Default;
        AttentionProblem problem = ShapeProblem.Dense<TQuery, TKeyValue>(shape, options, operands);
        if (problem.SequenceCount == 0 || shape.QueryLength == 0) return;
        (int queries, int keys) = Rehearsal.Lengths(problem, problem.Sequences[0]);
        int numbers = problem.KeyValueType.Numbers(), keyElements = shape.KeyDim / numbers, valueElements = shape.ValueDim / numbers;
        AttentionShape small = shape with
        {
            Batch = 1,
            QueryLength = queries,
            KeyLength = keys,
            QueryStrides = Compact(shape.QueryStrides, queries, shape.QueryHeads, shape.KeyDim),
            KeyStrides = Compact(shape.KeyStrides, keys, shape.KeyValueHeads, keyElements),
            ValueStrides = Compact(shape.ValueStrides, keys, shape.KeyValueHeads, valueElements),
            OutputStrides = Compact(shape.OutputStrides, queries, shape.QueryHeads, shape.ValueDim),
        };
        TQuery[] query = new TQuery[(long)queries * shape.QueryHeads * shape.KeyDim], output = new TQuery[(long)queries * shape.QueryHeads * shape.ValueDim];
        TKeyValue[] key = new TKeyValue[(long)keys * shape.KeyValueHeads * keyElements], value = new TKeyValue[(long)keys * shape.KeyValueHeads * valueElements];
        AttentionOperands given = Operands(operands, [queries, keys], [1, shape.QueryHeads, queries]);
        options = options with { QueryOffset = null };
        for (int i = 0; i < Rehearsal.Calls; i++) Forward<TQuery, TKeyValue>(query, key, value, output, small, options, given, execution);
    }

    /// <summary>Compiles and starts what a packed or paged call needs, so that the first such call takes about as long as the second.</summary>
    /// <remarks>As the other overload does, with one sequence of each kind that the call has: prefilled and decoded.</remarks>
    /// <typeparam name="TQuery">Element type of query and output.</typeparam>
    /// <typeparam name="TKeyValue">Element type of key and value.</typeparam>
    /// <param name="shape">Heads and dimensions; its batch, lengths and strides are ignored.</param>
    /// <param name="queryLengths">Query tokens of each sequence: <c>[1, 512]</c> for steps that decode and prefill.</param>
    /// <param name="keyLengths">Keys of each sequence.</param>
    /// <param name="blockSize">Tokens a block of a paged cache; null for a packed call.</param>
    /// <param name="options">The options of the call.</param>
    /// <param name="execution">Threads and instruction set of the call; null for <see cref="CpuExecution.Default"/>.</param>
    /// <param name="operands">The optional tensors that the call will have.</param>
    /// <exception cref="ArgumentException">The shape, the lengths, the types or the options cannot be computed on.</exception>
    /// <exception cref="PlatformNotSupportedException">The instruction set that <paramref name="execution"/> names is not available.</exception>
    public static void Prepare<TQuery, TKeyValue>(
        in AttentionShape shape, ReadOnlySpan<int> queryLengths, ReadOnlySpan<int> keyLengths, int? blockSize = null, AttentionOptions? options = null, CpuExecution? execution = null,
        OperandKinds operands = OperandKinds.None)
        where TQuery : unmanaged
        where TKeyValue : unmanaged
    {
        options ??= AttentionOptions.Default;
        int numbers = ElementTypes.OfKeyValue<TKeyValue>("key").Numbers(), keyElements = shape.KeyDim / numbers, valueElements = shape.ValueDim / numbers;
        List<(int Queries, int Keys)> sequences = Rehearsal.Sequences(ShapeProblem.Sequences<TQuery, TKeyValue>(shape, queryLengths, keyLengths, blockSize, options, operands));
        int queries = sequences.Sum(static s => s.Queries), keys = sequences.Sum(static s => s.Keys), longest = sequences.Select(static s => s.Keys).DefaultIfEmpty().Max();
        if (queries == 0) return;
        options = options with { QueryOffset = null };
        Tensor<TQuery> query = Zeros<TQuery>(queries, shape.QueryHeads, shape.KeyDim), output = Zeros<TQuery>(queries, shape.QueryHeads, shape.ValueDim);
        AttentionOperands given = Operands(operands, [queries, longest], [shape.QueryHeads, queries]);
        int[] cumulativeQueries = [0, .. sequences.Select((_, s) => sequences.Take(s + 1).Sum(static t => t.Queries))];
        if (blockSize is not int size)
        {
            int[] cumulativeKeys = [0, .. sequences.Select((_, s) => sequences.Take(s + 1).Sum(static t => t.Keys))];
            Tensor<TKeyValue> key = Zeros<TKeyValue>(keys, shape.KeyValueHeads, keyElements), value = Zeros<TKeyValue>(keys, shape.KeyValueHeads, valueElements);
            for (int i = 0; i < Rehearsal.Calls; i++) ForwardVariableLength(query, key, value, output, cumulativeQueries, cumulativeKeys, options, given, execution);
            return;
        }

        // All sequences read the same blocks: nobody writes them. One block is no larger than what is read of it.
        size = Math.Min(size, Math.Max(1, longest));
        int blocks = (longest + size - 1) / size;
        int[] contexts = [.. sequences.Select(static s => s.Keys)], tables = [.. Enumerable.Range(0, sequences.Count * blocks).Select(i => i % blocks)];
        Tensor<TKeyValue> keyCache = Zeros<TKeyValue>(blocks, size, shape.KeyValueHeads, keyElements), valueCache = Zeros<TKeyValue>(blocks, size, shape.KeyValueHeads, valueElements);
        for (int i = 0; i < Rehearsal.Calls; i++) ForwardPaged(query, keyCache, valueCache, output, new(cumulativeQueries, contexts, tables, blocks), options, given, execution);
    }

    private static Tensor<T> Zeros<T>(params ReadOnlySpan<nint> lengths) => Tensor.CreateFromShape<T>(lengths);

    /// <summary>Strides in the order of others, without gaps.</summary>
    private static AttentionStrides Compact(in AttentionStrides strides, int tokens, int heads, int dim) => strides.Head > strides.Token
        ? new((long)heads * tokens * dim, dim, (long)tokens * dim)
        : default;

    /// <summary>Operands of these kinds that exclude nothing.</summary>
    private static AttentionOperands Operands(OperandKinds kinds, ReadOnlySpan<nint> mask, ReadOnlySpan<nint> logSumExp)
    {
        AttentionOperands operands = default;
        if (kinds.HasFlag(OperandKinds.BooleanMask))
        {
            bool[] seen = new bool[mask[0] * mask[1]];
            seen.AsSpan().Fill(true);
            operands.BooleanMask = new(seen, mask);
        }

        if (kinds.HasFlag(OperandKinds.BiasFloat32)) operands.Bias = Tensor.CreateFromShape<float>(mask);
        if (kinds.HasFlag(OperandKinds.BiasFloat16)) operands.Bias = Tensor.CreateFromShape<Half>(mask);
        if (kinds.HasFlag(OperandKinds.BiasBFloat16)) operands.Bias = Tensor.CreateFromShape<BFloat16>(mask);
        if (kinds.HasFlag(OperandKinds.LogSumExp)) operands.LogSumExp = Tensor.CreateFromShape<float>(logSumExp);
        return operands;
    }
}
