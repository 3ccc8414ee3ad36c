namespace FusedAttention;

/// <summary>
/// Where the queries of a sequence lie on its key axis. One alignment governs causal masks, windows and ALiBi together;
/// <see cref="AttentionOptions.QueryOffset"/> and <see cref="AttentionOperands.QueryOffsets"/> override it.
/// </summary>
public enum AttentionAlignment
{
    /// <summary>
    /// The last query has the position of the last key: query <c>i</c> of <c>Nq</c> stands at <c>i + Nk - Nq</c>. The usual case of a key/value
    /// cache, where the queries are the newest tokens. The position may be negative when there are more queries than keys.
    /// </summary>
    BottomRight = 0,

    /// <summary>The first query has the position of the first key: query <c>i</c> stands at <c>i</c>.</summary>
    TopLeft = 1,
}
