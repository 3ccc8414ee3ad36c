using System.Text;

namespace FusedAttention.Planning;

/// <summary>Puts the functions of a call into words.</summary>
internal static class FunctionListing
{
    /// <summary>For each function its name and, a line each, the operations that it comes to; nothing without functions.</summary>
    /// <param name="text">Receives lines, each with its end.</param>
    /// <param name="options">Of the call.</param>
    public static void AppendTo(StringBuilder text, AttentionOptions options)
    {
        if (options.ScoreFunction is { } score) Append(text, "score function  ", score.ToString(), score.Graph.ToString());
        if (options.MaskFunction is { } mask) Append(text, "mask function   ", mask.ToString(), mask.Graph.ToString());
    }

    private static void Append(StringBuilder text, string title, string name, string operations)
    {
        text.Append($"{title} {name}\n");
        foreach (string line in operations.Split('\n', StringSplitOptions.RemoveEmptyEntries)) text.Append($"                 {line}\n");
    }
}
