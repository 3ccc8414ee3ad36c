namespace FusedAttention.Problems;

/// <summary>A problem from sizes alone: for plans that are explained, or compiled, before there are tensors. Its tensor pointers are null.</summary>
internal static unsafe class ShapeProblem
{
    /// <summary>A dense call.</summary>
    public static AttentionProblem Dense<TQuery, TKeyValue>(in AttentionShape shape, AttentionOptions options)
        where TQuery : unmanaged
        where TKeyValue : unmanaged
    {
        ShapeLayouts layouts = ShapeLayouts.Of(shape);
        CallTensors tensors = CallTensors.Of<TQuery, TKeyValue>(
            null, layouts.Query, null, layouts.Key, "key", null, layouts.Value, "value", null, layouts.Output, null, null, null, default);
        var problem = new AttentionProblem();
        ProblemBuilder.Dense(problem, tensors, options, default);
        return problem;
    }

    /// <summary>A packed call, or with a block size a paged one; the shape's batch and lengths are ignored.</summary>
    public static AttentionProblem Sequences<TQuery, TKeyValue>(
        in AttentionShape shape, ReadOnlySpan<int> queryLengths, ReadOnlySpan<int> keyLengths, int? blockSize, AttentionOptions options)
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
        ShapeLayouts layouts = ShapeLayouts.Of(shape with { Batch = 1, QueryLength = cumulativeQueries[^1], KeyLength = cumulativeKeys[^1] });
        CallTensors tensors = CallTensors.Of<TQuery, TKeyValue>(
            null, layouts.Query.WithoutFirst(), null, layouts.Key.WithoutFirst(), "key", null, layouts.Value.WithoutFirst(), "value",
            null, layouts.Output.WithoutFirst(), null, null, null, default);
        var problem = new AttentionProblem();
        ProblemBuilder.Packed(problem, tensors, cumulativeQueries, cumulativeKeys, options, default);

        // Pages change addresses only: the plan of a paged call is that of the packed one.
        problem.BlockSize = blockSize ?? 0;
        return problem;
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
