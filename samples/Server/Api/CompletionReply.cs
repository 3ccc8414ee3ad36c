using System.Text.Json.Serialization;

namespace FusedAttention.Samples.Server.Api;

/// <summary>An answer, or one piece of a streamed one.</summary>
internal sealed record CompletionReply(string Id, long Created, string Model, IReadOnlyList<CompletionChoice> Choices, CompletionUsage? Usage = null)
{
    public string Object { get; } = "text_completion";
}

internal sealed record CompletionChoice(int Index, string Text, string? FinishReason);

internal sealed record CompletionUsage(int PromptTokens, int CompletionTokens, PromptTokensDetails PromptTokensDetails)
{
    public int TotalTokens => PromptTokens + CompletionTokens;
}

/// <summary>How much of the prompt was found in the cache.</summary>
internal sealed record PromptTokensDetails(long CachedTokens);

internal sealed record ErrorReply(ErrorDetails Error);

internal sealed record ErrorDetails(string Message, string Type, string? Param);

internal sealed record ModelList(IReadOnlyList<ModelEntry> Data)
{
    public string Object { get; } = "list";
}

internal sealed record ModelEntry(string Id)
{
    public string Object { get; } = "model";
}

/// <summary>How all of these are written.</summary>
[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower, DefaultIgnoreCondition = JsonIgnoreCondition.Never, UnmappedMemberHandling = JsonUnmappedMemberHandling.Skip)]
[JsonSerializable(typeof(CompletionBody))]
[JsonSerializable(typeof(CompletionReply))]
[JsonSerializable(typeof(ErrorReply))]
[JsonSerializable(typeof(ModelList))]
internal sealed partial class ApiJson : JsonSerializerContext;
