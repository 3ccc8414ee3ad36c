namespace FusedAttention.Serving;

/// <summary>A scheduler did not take a request on that it could have at another time.</summary>
public sealed class RequestRefusedException : InvalidOperationException
{
    /// <summary>With a general message.</summary>
    public RequestRefusedException()
        : this(RequestRefusal.QueueFull, "The queue is full.")
    {
    }

    /// <summary>With a message.</summary>
    /// <param name="message">What happened.</param>
    public RequestRefusedException(string message)
        : this(RequestRefusal.QueueFull, message)
    {
    }

    /// <summary>With a message and a cause.</summary>
    /// <param name="message">What happened.</param>
    /// <param name="innerException">Why.</param>
    public RequestRefusedException(string message, Exception innerException)
        : base(message, innerException)
    {
    }

    /// <summary>With a reason.</summary>
    /// <param name="refusal">Why the request was not taken on.</param>
    /// <param name="message">What happened.</param>
    public RequestRefusedException(RequestRefusal refusal, string message)
        : base(message) => Refusal = refusal;

    /// <summary>Why the request was not taken on.</summary>
    public RequestRefusal Refusal { get; }
}
