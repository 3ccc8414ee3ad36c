namespace FusedAttention;

/// <summary>
/// Whether the CPU kernels may use machine code that this library writes at run time, for what .NET has no instructions: on x86-64, the conversion of binary16 keys and values. Memory for it is written
/// first and executable afterwards, never both.
/// </summary>
public enum CpuMachineCode
{
    /// <summary>Where processor and system allow it; the environment variable <c>FUSEDATTENTION_MACHINE_CODE</c> (a name of this enum) overrides it. <c>Explain</c> says what runs, and why.</summary>
    Auto = 0,

    /// <summary>No: the compiler's own instructions alone.</summary>
    Off = 1,

    /// <summary>As <see cref="Auto"/>, but a call is refused where the instruction set has machine code and processor or system do not allow it.</summary>
    Required = 2,
}
