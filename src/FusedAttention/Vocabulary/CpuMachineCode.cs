namespace FusedAttention;

/// <summary>
/// Whether the CPU kernels may use machine code that this library writes at run time, for what .NET has no instructions: on x86-64, the conversion of binary16 keys and values, products of 8-bit keys and values by 16-bit integers (AVX-512 with VNNI, queries of 16 bits), and on Linux products of bfloat16 by tiles
/// (AMX), which prefill calls whose queries, keys and values all are bfloat16, with dimensions from 16 to 256. Memory for it is written first and executable afterwards, never both.
/// </summary>
public enum CpuMachineCode
{
    /// <summary>Where processor and system allow it; the environment variable <c>FUSEDATTENTION_MACHINE_CODE</c> (a name of this enum) overrides it. <c>Explain</c> says what runs, and why.</summary>
    Auto = 0,

    /// <summary>No: the compiler's own instructions alone.</summary>
    Off = 1,

    /// <summary>As <see cref="Auto"/>, but a call is refused where the instruction set has machine code and processor or system do not allow it. Tiles, which few processors have, are used where they are and not required.</summary>
    Required = 2,
}
