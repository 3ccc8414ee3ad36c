using System.ComponentModel;

namespace FusedAttention;

/// <content>Members by the names that the first programs over this library know them by. New code uses the <c>Get</c> form.</content>
public abstract partial class KeyValueCache
{
    /// <inheritdoc cref="GetLength"/>
    [EditorBrowsable(EditorBrowsableState.Never)]
    public int Length(CacheSequence sequence) => GetLength(sequence);

    /// <inheritdoc cref="GetFirstPosition"/>
    [EditorBrowsable(EditorBrowsableState.Never)]
    public int FirstPosition(CacheSequence sequence) => GetFirstPosition(sequence);

    /// <inheritdoc cref="GetBlocksNeeded"/>
    [EditorBrowsable(EditorBrowsableState.Never)]
    public int BlocksNeeded(CacheSequence sequence, int tokens) => GetBlocksNeeded(sequence, tokens);
}
