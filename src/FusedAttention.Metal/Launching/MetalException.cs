namespace FusedAttention;

/// <summary>
/// Metal refused or failed something: a kernel did not compile, memory was not given, or work on the GPU ended with an error. The message has everything that the system said.
/// </summary>
/// <remarks>Work runs after the call that queued it has returned, so its failure is thrown by whatever waits for it next.</remarks>
public sealed class MetalException : Exception
{
    /// <summary>With a general message.</summary>
    public MetalException()
        : base("Metal failed.")
    {
    }

    /// <summary>With a message.</summary>
    /// <param name="message">What happened.</param>
    public MetalException(string message)
        : base(message)
    {
    }

    /// <summary>With a message and a cause.</summary>
    /// <param name="message">What happened.</param>
    /// <param name="innerException">Why.</param>
    public MetalException(string message, Exception innerException)
        : base(message, innerException)
    {
    }
}
