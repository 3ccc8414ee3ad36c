namespace FusedAttention.Checking.Measurement;

/// <summary>What the machine can do at most with a number of threads, measured.</summary>
/// <param name="InstructionSet">Whose multiply-adds.</param>
/// <param name="Threads">Threads that worked at once.</param>
/// <param name="GigaflopsPerSecond">Fused multiply-adds from registers, two operations each.</param>
/// <param name="GigabytesPerSecond">Reading memory beyond every cache.</param>
public sealed record Ceilings(CpuInstructionSet InstructionSet, int Threads, double GigaflopsPerSecond, double GigabytesPerSecond)
{
    public static Ceilings Measure(CpuInstructionSet instructionSet, int threads, TimeSpan time)
        => new(instructionSet, threads, MultiplyAddPeak.Measure(instructionSet, threads, time / 2), StreamingRead.Measure(threads, time / 2));

    /// <summary>
    /// The time that the roofline allows, as a share of the time taken: 1 is a call that does its arithmetic, or reads its keys and values, as fast as the machine can,
    /// whichever of the two takes longer.
    /// </summary>
    public double Share(double floatingPointOperations, double bytes, double milliseconds)
        => Math.Max(floatingPointOperations / GigaflopsPerSecond, bytes / GigabytesPerSecond) / 1e6 / milliseconds;

    /// <summary>Whether the arithmetic is the ceiling of such a call, and not memory.</summary>
    public bool IsArithmeticBound(double floatingPointOperations, double bytes)
        => floatingPointOperations / GigaflopsPerSecond > bytes / GigabytesPerSecond;
}
