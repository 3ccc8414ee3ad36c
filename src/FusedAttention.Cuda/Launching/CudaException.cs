namespace FusedAttention;

/// <summary>
/// The NVIDIA driver is not there, or refused or failed something: a kernel did not load, memory was not given, or work on the GPU ended with an error. The message has what the driver said.
/// </summary>
/// <remarks>Work runs after the call that queued it has returned, so its failure is thrown by whatever waits for it next.</remarks>
public sealed class CudaException : Exception
{
    /// <summary>With a general message.</summary>
    public CudaException()
        : base("The NVIDIA driver failed.")
    {
    }

    /// <summary>With a message.</summary>
    /// <param name="message">What happened.</param>
    public CudaException(string message)
        : base(message)
    {
    }

    /// <summary>With a message and a cause.</summary>
    /// <param name="message">What happened.</param>
    /// <param name="innerException">Why.</param>
    public CudaException(string message, Exception innerException)
        : base(message, innerException)
    {
    }
}
