namespace FusedAttention;

/// <summary>
/// A paged cache has fewer available blocks than an operation needs. Nothing has changed: free a sequence, or drop blocks that a window has passed, and try again.
/// </summary>
public sealed class OutOfBlocksException : InvalidOperationException
{
    /// <summary>With a general message.</summary>
    public OutOfBlocksException()
        : base("The cache is out of blocks.")
    {
    }

    /// <summary>With a message.</summary>
    /// <param name="message">What happened.</param>
    public OutOfBlocksException(string message)
        : base(message)
    {
    }

    /// <summary>With a message and a cause.</summary>
    /// <param name="message">What happened.</param>
    /// <param name="innerException">Why.</param>
    public OutOfBlocksException(string message, Exception innerException)
        : base(message, innerException)
    {
    }

    internal OutOfBlocksException(int needed, int free, int total)
        : base($"{needed} more {(needed == 1 ? "block is" : "blocks are")} needed, but only {free} of the cache's {total} are free. Nothing was changed.")
    {
        Needed = needed;
        Free = free;
    }

    /// <summary>How many blocks the operation needed, copies of shared ones included.</summary>
    public int Needed { get; }

    /// <summary>How many blocks were available.</summary>
    public int Free { get; }
}
