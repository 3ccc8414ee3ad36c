namespace FusedAttention;

/// <summary>
/// The part of a mask that follows from positions alone: causal, a sliding window, both, or neither.
/// Arbitrary masks travel per call in <see cref="AttentionOperands.BooleanMask"/>.
/// </summary>
/// <remarks>
/// With <c>p</c> the position of a query on the key axis (see <see cref="AttentionAlignment"/>), key <c>j</c> is allowed if and only if
/// <c>j &lt;= p</c> when <see cref="IsCausal"/>, <c>j &gt;= p - WindowLeft</c> when <see cref="WindowLeft"/> has a value, and
/// <c>j &lt;= p + WindowRight</c> when <see cref="WindowRight"/> has a value. A window includes the query's own position.
/// </remarks>
public readonly record struct AttentionMask
{
    private AttentionMask(bool isCausal, int? windowLeft, int? windowRight)
    {
        if (windowLeft is < 0) throw new ArgumentOutOfRangeException(nameof(windowLeft), windowLeft, "A window reaches 0 or more keys to the left, or null for all of them.");
        if (windowRight is < 0) throw new ArgumentOutOfRangeException(nameof(windowRight), windowRight, "A window reaches 0 or more keys to the right, or null for all of them.");
        IsCausal = isCausal;
        WindowLeft = windowLeft;
        WindowRight = windowRight;
    }

    /// <summary>Every query sees every key. The default value.</summary>
    public static AttentionMask Full => default;

    /// <summary>A query sees the keys up to and including its own position.</summary>
    public static AttentionMask Causal => new(true, null, null);

    /// <summary>Whether a query is barred from keys after its own position.</summary>
    public bool IsCausal { get; }

    /// <summary>How many keys before its own position a query sees; null for all of them.</summary>
    public int? WindowLeft { get; }

    /// <summary>How many keys after its own position a query sees; null for all of them (none when <see cref="IsCausal"/>).</summary>
    public int? WindowRight { get; }

    /// <summary>
    /// Causal attention over a sliding window as model configurations state it (<c>sliding_window = W</c>): a query sees the last <paramref name="keys"/> keys, itself included. The same as
    /// <c>CausalWindow(keys - 1)</c>.
    /// </summary>
    /// <param name="keys">Keys that a query sees, its own included; 1 or more.</param>
    /// <exception cref="ArgumentOutOfRangeException"><paramref name="keys"/> is below 1.</exception>
    public static AttentionMask SlidingWindow(int keys) => keys >= 1
        ? new(true, keys - 1, null)
        : throw new ArgumentOutOfRangeException(nameof(keys), keys, "A sliding window has 1 key or more: the query's own.");

    /// <summary>
    /// Causal attention over a sliding window: a query sees itself and at most <paramref name="left"/> keys before it, <paramref name="left"/> + 1 keys in all. For a model's
    /// <c>sliding_window = W</c>, which counts the query's own key, take <see cref="SlidingWindow"/>.
    /// </summary>
    /// <param name="left">Keys before the query's own position, 0 or more.</param>
    /// <exception cref="ArgumentOutOfRangeException"><paramref name="left"/> is negative.</exception>
    public static AttentionMask CausalWindow(int left) => new(true, left, null);

    /// <summary>A sliding window: a query sees at most <paramref name="left"/> keys before and <paramref name="right"/> keys after its own position.</summary>
    /// <param name="left">Keys before the query's own position, 0 or more; null for all of them.</param>
    /// <param name="right">Keys after the query's own position, 0 or more; null for all of them.</param>
    /// <exception cref="ArgumentOutOfRangeException">A reach is negative.</exception>
    public static AttentionMask Window(int? left, int? right) => new(false, left, right);

    /// <summary>The intersection of this mask with causal attention.</summary>
    public AttentionMask AndCausal() => new(true, WindowLeft, WindowRight);

    /// <summary>A short name, for logs: <c>full</c>, <c>causal</c>, <c>window(7, 0)</c>, <c>causal window(256, *)</c>.</summary>
    public override string ToString()
    {
        if (WindowLeft is null && WindowRight is null) return IsCausal ? "causal" : "full";
        string window = $"window({WindowLeft?.ToString() ?? "*"}, {WindowRight?.ToString() ?? "*"})";
        return IsCausal ? "causal " + window : window;
    }
}
