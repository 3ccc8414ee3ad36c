namespace FusedAttention;

/// <summary>
/// How the processor computes a call, beside what it computes (<see cref="AttentionOptions"/>): immutable, checked when it is made, and free to be shared by any number of calls and threads.
/// </summary>
public sealed record CpuExecution
{
    /// <summary>One thread per processor and the best instruction set of the machine.</summary>
    public static CpuExecution Default { get; } = new();

    /// <summary>How many threads a call may use, the calling one included; -1, the default, for one per processor. Never changes a bit of the result.</summary>
    /// <exception cref="ArgumentOutOfRangeException">The value is 0 or below -1.</exception>
    public int MaxDegreeOfParallelism
    {
        get;
        init => field = value is > 0 or -1
            ? value
            : throw new ArgumentOutOfRangeException(nameof(MaxDegreeOfParallelism), value, "MaxDegreeOfParallelism must be 1 or more, or -1 for one thread per processor.");
    } = -1;

    /// <summary>The variant of the kernels; <see cref="CpuInstructionSet.Auto"/> by default. Variants differ in the last bits. One that the machine lacks is refused when the call is made.</summary>
    public CpuInstructionSet InstructionSet { get; init; }

    /// <summary>Whether kernels may use machine code that the library writes; <see cref="CpuMachineCode.Auto"/> by default.</summary>
    public CpuMachineCode MachineCode { get; init; }
}
