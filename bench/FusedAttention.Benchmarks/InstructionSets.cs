namespace FusedAttention.Benchmarks;

/// <summary>The instruction sets that this machine has.</summary>
internal static class InstructionSets
{
    public static IEnumerable<CpuInstructionSet> Supported => Enum.GetValues<CpuInstructionSet>().Where(IsSupported);

    private static bool IsSupported(CpuInstructionSet set)
    {
        if (set == CpuInstructionSet.Auto) return false;
        try
        {
            Attention.Explain<float, float>(new AttentionShape(1, 1, 1, 1, 1, 1), execution: new() { InstructionSet = set });
            return true;
        }
        catch (PlatformNotSupportedException)
        {
            return false;
        }
    }
}
