namespace FusedAttention.Scores.Tracing;

/// <summary>Why a function cannot be recorded: the end of a sentence that begins with the function's name.</summary>
internal sealed class ScoreTraceException(string reason) : Exception(reason);
