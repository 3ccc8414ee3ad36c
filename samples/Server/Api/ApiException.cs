using FusedAttention.Serving;

namespace FusedAttention.Samples.Server.Api;

/// <summary>A call that is answered with an error.</summary>
internal sealed class ApiException(int status, string? parameter, string message) : Exception(message)
{
    public int Status { get; } = status;

    public string? Parameter { get; } = parameter;

    /// <summary>What a scheduler's refusal is in HTTP: the caller's mistake, try again later, or elsewhere.</summary>
    public static ApiException Of(RequestRefusal refusal) => refusal switch
    {
        RequestRefusal.TooLong => new(StatusCodes.Status400BadRequest, "max_tokens", "The prompt and max_tokens together are more than the whole cache holds."),
        RequestRefusal.QueueFull => new(StatusCodes.Status429TooManyRequests, null, "Too many requests wait already. Try again later."),
        _ => new(StatusCodes.Status503ServiceUnavailable, null, "The server stops."),
    };
}
