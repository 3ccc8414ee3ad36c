namespace FusedAttention.Cli.Commands;

/// <summary>What ran a call, in the words of reports.</summary>
internal static class ExplanationText
{
    public static (string Name, string Value)[] Facts(AttentionExplanation explanation, bool rowInvariant = false)
    {
        string kernel = explanation.Kernel + (rowInvariant ? ", row-invariant" : "");
        return explanation.Device is string device
            ? [("backend", explanation.Backend), ("device", device), ("kernel", kernel)]
            : [("backend", explanation.Backend), ("kernel", kernel), ("instruction set", $"{explanation.InstructionSet}"), ("threads", explanation.Threads.ToString())];
    }

    public static string Line(AttentionExplanation explanation) => explanation.Device is string device
        ? $"{explanation.Backend}, {explanation.Kernel}, {device}"
        : $"{explanation.Backend}, {explanation.Kernel}, {explanation.InstructionSet}, {explanation.Threads} {(explanation.Threads == 1 ? "thread" : "threads")}";
}
