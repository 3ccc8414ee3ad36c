using FusedAttention.Tensors;

namespace FusedAttention.Problems;

/// <summary>A problem from sizes alone: for plans that are explained, or compiled, before there are tensors. Its tensor pointers are null.</summary>
internal static unsafe class ShapeProblem
{
    /// <summary>A dense call.</summary>
    public static AttentionProblem Dense<TQuery, TKeyValue>(in AttentionShape shape, AttentionOptions options, OperandKinds operands = OperandKinds.None)
        where TQuery : unmanaged
        where TKeyValue : unmanaged
    {
        ShapeLayouts layouts = ShapeLayouts.Of<TKeyValue>(shape);
        var problem = new AttentionProblem();
        ProblemBuilder.Dense(problem, Tensors<TQuery, TKeyValue>(layouts.Query, layouts.Key, layouts.Value, layouts.Output), options, default);
        SetOperands(problem, operands);
        return problem;
    }

    /// <summary>A packed call, or with a block size a paged one; the shape's batch and lengths are ignored.</summary>
    public static AttentionProblem Sequences<TQuery, TKeyValue>(
        in AttentionShape shape, ReadOnlySpan<int> queryLengths, ReadOnlySpan<int> keyLengths, int? blockSize, AttentionOptions options, OperandKinds operands = OperandKinds.None)
        where TQuery : unmanaged
        where TKeyValue : unmanaged
    {
        if (keyLengths.Length != queryLengths.Length)
        {
            throw new ArgumentException($"keyLengths has {keyLengths.Length} entries for {queryLengths.Length} sequences of queryLengths.", nameof(keyLengths));
        }

        if (blockSize is < 1) throw new ArgumentException($"blockSize is {blockSize}; expected 1 or more, or null for a packed call.", nameof(blockSize));
        int[] cumulativeQueries = Cumulate(queryLengths, nameof(queryLengths));
        int[] cumulativeKeys = Cumulate(keyLengths, nameof(keyLengths));
        ShapeLayouts layouts = ShapeLayouts.Of<TKeyValue>(shape with { Batch = 1, QueryLength = cumulativeQueries[^1], KeyLength = cumulativeKeys[^1] });
        var problem = new AttentionProblem();
        ProblemBuilder.Packed(
            problem,
            Tensors<TQuery, TKeyValue>(layouts.Query.WithoutFirst(), layouts.Key.WithoutFirst(), layouts.Value.WithoutFirst(), layouts.Output.WithoutFirst()),
            cumulativeQueries, cumulativeKeys, options, default);
        SetOperands(problem, operands);

        // Pages change addresses only: the plan of a paged call is that of the packed one.
        problem.BlockSize = blockSize ?? 0;
        return problem;
    }

    private static CallTensors Tensors<TQuery, TKeyValue>(in TensorLayout query, in TensorLayout key, in TensorLayout value, in TensorLayout output)
        where TQuery : unmanaged
        where TKeyValue : unmanaged
        => CallTensors.Of(
            TensorArgument.Of<TQuery>(null, query, nameof(query)), TensorArgument.OfKeyValue<TKeyValue>(null, key, nameof(key)),
            TensorArgument.OfKeyValue<TKeyValue>(null, value, nameof(value)), TensorArgument.Of<TQuery>(null, output, nameof(output)));

    private static void SetOperands(AttentionProblem problem, OperandKinds operands)
    {
        OperandKinds bias = operands & (OperandKinds.BiasFloat32 | OperandKinds.BiasFloat16 | OperandKinds.BiasBFloat16);
        problem.BiasType = bias switch
        {
            OperandKinds.None or OperandKinds.BiasFloat32 => AttentionElementType.Float32,
            OperandKinds.BiasFloat16 => AttentionElementType.Float16,
            OperandKinds.BiasBFloat16 => AttentionElementType.BFloat16,
            _ => throw new ArgumentException($"operands is {operands}; a call has one bias at most.", nameof(operands)),
        };
        problem.HasBias = bias != OperandKinds.None;
        bool hasOneRow = operands.HasFlag(OperandKinds.BiasOfKeys);
        if (hasOneRow && !problem.HasBias) throw new ArgumentException($"operands is {operands}; expected a type of the bias beside {nameof(OperandKinds.BiasOfKeys)}.", nameof(operands));

        // Plans only ask whether it is 0.
        problem.BiasQueryStride = problem.HasBias && !hasOneRow ? 1 : 0;
        problem.HasMask = operands.HasFlag(OperandKinds.BooleanMask);
        problem.HasLogSumExp = operands.HasFlag(OperandKinds.LogSumExp);
        problem.HasKeyScale = operands.HasFlag(OperandKinds.KeyScale);
        problem.HasValueScale = operands.HasFlag(OperandKinds.ValueScale);
    }

    private static int[] Cumulate(ReadOnlySpan<int> lengths, string name)
    {
        int[] cumulative = new int[lengths.Length + 1];
        long sum = 0;
        for (int i = 0; i < lengths.Length; i++)
        {
            if (lengths[i] < 0) throw new ArgumentException($"{name}[{i}] is {lengths[i]}; expected 0 or more.", name);
            sum += lengths[i];
            if (sum > int.MaxValue) throw new ArgumentException($"{name} sums to more than {int.MaxValue}.", name);
            cumulative[i + 1] = (int)sum;
        }

        return cumulative;
    }
}
