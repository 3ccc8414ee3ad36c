using FusedAttention.Cpu;
using FusedAttention.Problems;

namespace FusedAttention;

public static unsafe partial class Attention
{
    /// <summary>What a dense call of this shape would run, and why, without running it.</summary>
    /// <typeparam name="TQuery">Element type of query and output.</typeparam>
    /// <typeparam name="TKeyValue">Element type of key and value.</typeparam>
    /// <param name="shape">The sizes of the call.</param>
    /// <param name="options">The options of the call.</param>
    /// <exception cref="ArgumentException">The shape or the types cannot be computed on.</exception>
    /// <exception cref="PlatformNotSupportedException">The instruction set that the options name is not available.</exception>
    public static AttentionExplanation Explain<TQuery, TKeyValue>(in AttentionShape shape, AttentionOptions? options = null)
        where TQuery : unmanaged
        where TKeyValue : unmanaged
    {
        ShapeLayouts layouts = ShapeLayouts.Of(shape);
        CallTensors tensors = CallTensors.Of<TQuery, TKeyValue>(
            null, layouts.Query, null, layouts.Key, "key", null, layouts.Value, "value", null, layouts.Output, null, null, null, default);
        var problem = new AttentionProblem();
        options ??= AttentionOptions.Default;
        ProblemBuilder.Dense(problem, tensors, options, default);
        return CpuExplanation.Of(problem, options);
    }

    /// <summary>What a packed or paged call would run, and why, without running it.</summary>
    /// <typeparam name="TQuery">Element type of query and output.</typeparam>
    /// <typeparam name="TKeyValue">Element type of key and value.</typeparam>
    /// <param name="shape">Heads and dimensions; its batch and lengths are ignored.</param>
    /// <param name="queryLengths">Query tokens of each sequence.</param>
    /// <param name="keyLengths">Keys of each sequence.</param>
    /// <param name="blockSize">Tokens a block of a paged cache; null for a packed call.</param>
    /// <param name="options">The options of the call.</param>
    /// <exception cref="ArgumentException">The shape, the lengths or the types cannot be computed on.</exception>
    /// <exception cref="PlatformNotSupportedException">The instruction set that the options name is not available.</exception>
    public static AttentionExplanation Explain<TQuery, TKeyValue>(
        in AttentionShape shape, ReadOnlySpan<int> queryLengths, ReadOnlySpan<int> keyLengths, int? blockSize = null, AttentionOptions? options = null)
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
        options ??= AttentionOptions.Default;
        ProblemBuilder.Packed(problem, tensors, cumulativeQueries, cumulativeKeys, options, default);

        // Pages change addresses only: the plan of a paged call is that of the packed one.
        problem.BlockSize = blockSize ?? 0;
        return CpuExplanation.Of(problem, options);
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
