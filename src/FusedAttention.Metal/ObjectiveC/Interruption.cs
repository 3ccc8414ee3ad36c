namespace FusedAttention.Metal.ObjectiveC;

/// <summary>
/// What the system means by stopping work, or by not taking any more, in words. It tells by codes of its driver in the error's description alone, which programs that meet them put into their bug reports:
/// <c>0000000e:kIOGPUCommandBufferCallbackErrorImpactingInteractivity</c> for a command buffer that kept the screen waiting, and from then on, for everything of the same queue,
/// <c>00000004:kIOGPUCommandBufferCallbackErrorSubmissionsIgnored</c>.
/// </summary>
internal static class Interruption
{
    /// <summary>What to say behind the system's own words; nothing if it is none of these.</summary>
    public static string InWords(string description)
    {
        if (Has(description, "ImpactingInteractivity", "0000000e:"))
            return " The system stopped this work because it kept the screen waiting; what it was to write is not complete. Calls in smaller pieces (fewer queries or sequences at a time) are not stopped.";
        return IsIgnored(description) ? " The system took no more work from this queue after what went wrong before; the next call gets a queue of its own." : "";
    }

    /// <summary>Whether everything that is submitted to the same queue will fail.</summary>
    public static bool IsIgnored(string description) => Has(description, "SubmissionsIgnored", "00000004:");

    private static bool Has(string description, string name, string code) =>
        description.Contains(name, StringComparison.Ordinal) || description.Contains(code, StringComparison.Ordinal);
}
