namespace FusedAttention;

public static unsafe partial class Attention
{
    /// <summary>What a dense call of this shape would run, and why, without running it.</summary>
    /// <typeparam name="TQuery">Element type of query and output.</typeparam>
    /// <typeparam name="TKeyValue">Element type of key and value.</typeparam>
    /// <param name="shape">The sizes of the call.</param>
    /// <param name="options">The options of the call.</param>
    /// <exception cref="ArgumentException">The shape or the types cannot be computed on.</exception>
    public static AttentionExplanation Explain<TQuery, TKeyValue>(in AttentionShape shape, AttentionOptions? options = null)
        where TQuery : unmanaged
        where TKeyValue : unmanaged
        => throw new NotSupportedException();

    /// <summary>What a packed or paged call would run, and why, without running it.</summary>
    /// <typeparam name="TQuery">Element type of query and output.</typeparam>
    /// <typeparam name="TKeyValue">Element type of key and value.</typeparam>
    /// <param name="shape">Heads and dimensions; its batch and lengths are ignored.</param>
    /// <param name="queryLengths">Query tokens of each sequence.</param>
    /// <param name="keyLengths">Keys of each sequence.</param>
    /// <param name="blockSize">Tokens a block of a paged cache; null for a packed call.</param>
    /// <param name="options">The options of the call.</param>
    /// <exception cref="ArgumentException">The shape, the lengths or the types cannot be computed on.</exception>
    public static AttentionExplanation Explain<TQuery, TKeyValue>(
        in AttentionShape shape, ReadOnlySpan<int> queryLengths, ReadOnlySpan<int> keyLengths, int? blockSize = null, AttentionOptions? options = null)
        where TQuery : unmanaged
        where TKeyValue : unmanaged
        => throw new NotSupportedException();
}
