namespace FusedAttention.Cuda.Emulation;

/// <summary>A kernel did what no kernel may: the message says which, where it stood, and what was wrong. Or the text of one is not what the emulator knows.</summary>
public sealed class CudaEmulationException : Exception
{
    /// <summary>With a general message.</summary>
    public CudaEmulationException()
        : base("A kernel failed in the emulator.")
    {
    }

    /// <summary>With a message.</summary>
    /// <param name="message">What happened, and where.</param>
    public CudaEmulationException(string message)
        : base(message)
    {
    }

    /// <summary>With a message and a cause.</summary>
    /// <param name="message">What happened, and where.</param>
    /// <param name="innerException">Why.</param>
    public CudaEmulationException(string message, Exception innerException)
        : base(message, innerException)
    {
    }
}
