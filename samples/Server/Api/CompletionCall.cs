using System.Text;
using System.Text.Json;
using FusedAttention.Samples.Server.Engine;
using FusedAttention.Samples.TextGeneration.Tokens;
using FusedAttention.Serving;

namespace FusedAttention.Samples.Server.Api;

/// <summary>The body of a call, as it comes. Names are those of the OpenAI API; <c>cache_salt</c> and <c>priority</c> are vLLM's.</summary>
internal sealed record CompletionBody
{
    public string? Model { get; set; }

    /// <summary>A text, or tokens.</summary>
    public JsonElement Prompt { get; set; }

    public int MaxTokens { get; set; } = 16;

    public double Temperature { get; set; } = 1;

    public double TopP { get; set; } = 1;

    public int N { get; set; } = 1;

    public bool Stream { get; set; }

    public StreamOptions? StreamOptions { get; set; }

    /// <summary>A text, or several.</summary>
    public JsonElement Stop { get; set; }

    public int? Seed { get; set; }

    public string? CacheSalt { get; set; }

    public int Priority { get; set; }
}

internal sealed record StreamOptions
{
    public bool IncludeUsage { get; set; }
}

/// <summary>A call that was understood.</summary>
internal sealed record CompletionCall(int[] Prompt, GenerationOptions Options, SamplingOptions Sampling, int Choices, string[] Stops, bool IsStreamed, bool WantsUsage)
{
    private const int MostChoices = 128, MostStops = 16;

    /// <exception cref="ApiException">What was given cannot be served.</exception>
    public static CompletionCall Read(CompletionBody body, ITokenizer tokenizer, int vocabulary)
    {
        Check(body.MaxTokens >= 0, "max_tokens", $"max_tokens is {body.MaxTokens}, but must be 0 or more.");
        Check(body.Temperature is >= 0 and <= 100, "temperature", $"temperature is {body.Temperature}, but must be from 0 to 100.");
        Check(body.TopP is > 0 and <= 1, "top_p", $"top_p is {body.TopP}, but must be above 0 and at most 1.");
        Check(body.N is >= 1 and <= MostChoices, "n", $"n is {body.N}, but must be from 1 to {MostChoices}.");
        return new(
            ReadPrompt(body.Prompt, tokenizer, vocabulary),
            new() { MaxNewTokens = body.MaxTokens, PrefixIdentity = body.CacheSalt, Priority = body.Priority },
            new(body.Temperature, body.TopP, body.Seed ?? Random.Shared.Next()),
            body.N,
            ReadStops(body.Stop),
            body.Stream,
            body.StreamOptions?.IncludeUsage ?? false);
    }

    private static int[] ReadPrompt(JsonElement prompt, ITokenizer tokenizer, int vocabulary)
    {
        switch (prompt.ValueKind)
        {
            case JsonValueKind.String:
                int[] tokens = tokenizer.Encode(Encoding.UTF8.GetBytes(prompt.GetString()!));
                Check(tokens.Length > 0, "prompt", "prompt is empty; the model needs something to start from.");
                return tokens;
            case JsonValueKind.Array when prompt.GetArrayLength() > 0:
                return [.. prompt.EnumerateArray().Select(Token)];
            default:
                throw new ApiException(StatusCodes.Status400BadRequest, "prompt", "prompt must be a text or a list of tokens.");
        }

        int Token(JsonElement element)
        {
            bool isToken = element.ValueKind == JsonValueKind.Number && element.TryGetInt32(out int token) && (uint)token < (uint)vocabulary;
            Check(isToken, "prompt", $"prompt has an element that is no token from 0 to {vocabulary - 1}. A list of texts is not supported: make one call each.");
            return element.GetInt32();
        }
    }

    private static string[] ReadStops(JsonElement stop)
    {
        string[] stops = stop.ValueKind switch
        {
            JsonValueKind.Undefined or JsonValueKind.Null => [],
            JsonValueKind.String => [stop.GetString()!],
            JsonValueKind.Array when stop.EnumerateArray().All(static element => element.ValueKind == JsonValueKind.String) => [.. stop.EnumerateArray().Select(static element => element.GetString()!)],
            _ => throw new ApiException(StatusCodes.Status400BadRequest, "stop", "stop must be a text or a list of texts."),
        };
        Check(stops.Length <= MostStops && stops.All(static text => text.Length > 0), "stop", $"stop has {stops.Length} texts, but must have at most {MostStops}, none of them empty.");
        return stops;
    }

    private static void Check(bool holds, string parameter, string message)
    {
        if (!holds) throw new ApiException(StatusCodes.Status400BadRequest, parameter, message);
    }
}
