namespace FusedAttention.Metal.Emulation;

/// <summary>A kernel that does not compile, or a launch that went wrong; the message has the whole log.</summary>
internal sealed class MetalEmulationException : Exception
{
    public MetalEmulationException()
    {
    }

    public MetalEmulationException(string message)
        : base(message)
    {
    }

    public MetalEmulationException(string message, Exception innerException)
        : base(message, innerException)
    {
    }
}
