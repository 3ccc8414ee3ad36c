using FusedAttention.Cpu;
using FusedAttention.Problems;

namespace FusedAttention;

public static partial class Attention
{
    /// <summary>What a dense call of this shape would run, and why, without running it.</summary>
    /// <typeparam name="TQuery">Element type of query and output.</typeparam>
    /// <typeparam name="TKeyValue">Element type of key and value.</typeparam>
    /// <param name="shape">The sizes of the call.</param>
    /// <param name="options">The options of the call.</param>
    /// <param name="execution">Threads and instruction set of the call; null for <see cref="CpuExecution.Default"/>.</param>
    /// <exception cref="ArgumentException">The shape or the types cannot be computed on.</exception>
    /// <exception cref="PlatformNotSupportedException">The instruction set that <paramref name="execution"/> names is not available.</exception>
    public static AttentionExplanation Explain<TQuery, TKeyValue>(in AttentionShape shape, AttentionOptions? options = null, CpuExecution? execution = null)
        where TQuery : unmanaged
        where TKeyValue : unmanaged
    {
        options ??= AttentionOptions.Default;
        return CpuExplanation.Of(ShapeProblem.Dense<TQuery, TKeyValue>(shape, options), options, options.Resolve(execution, default).Execution);
    }

    /// <summary>What a packed or paged call would run, and why, without running it.</summary>
    /// <typeparam name="TQuery">Element type of query and output.</typeparam>
    /// <typeparam name="TKeyValue">Element type of key and value.</typeparam>
    /// <param name="shape">Heads and dimensions; its batch and lengths are ignored.</param>
    /// <param name="queryLengths">Query tokens of each sequence.</param>
    /// <param name="keyLengths">Keys of each sequence.</param>
    /// <param name="blockSize">Tokens a block of a paged cache; null for a packed call.</param>
    /// <param name="options">The options of the call.</param>
    /// <param name="execution">Threads and instruction set of the call; null for <see cref="CpuExecution.Default"/>.</param>
    /// <exception cref="ArgumentException">The shape, the lengths or the types cannot be computed on.</exception>
    /// <exception cref="PlatformNotSupportedException">The instruction set that <paramref name="execution"/> names is not available.</exception>
    public static AttentionExplanation Explain<TQuery, TKeyValue>(
        in AttentionShape shape, ReadOnlySpan<int> queryLengths, ReadOnlySpan<int> keyLengths, int? blockSize = null, AttentionOptions? options = null, CpuExecution? execution = null)
        where TQuery : unmanaged
        where TKeyValue : unmanaged
    {
        options ??= AttentionOptions.Default;
        return CpuExplanation.Of(ShapeProblem.Sequences<TQuery, TKeyValue>(shape, queryLengths, keyLengths, blockSize, options), options, options.Resolve(execution, default).Execution);
    }
}
