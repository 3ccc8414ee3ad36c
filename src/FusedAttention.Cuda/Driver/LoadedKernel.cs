namespace FusedAttention.Cuda.Driver;

/// <summary>A kernel in machine code, and what the assembler made of it.</summary>
/// <param name="Module">The driver's module.</param>
/// <param name="Function">The driver's function, for launches.</param>
/// <param name="Registers">Of a thread.</param>
/// <param name="LocalBytes">Of a thread, in memory: more than 0 where registers were spilled, or an array was indexed.</param>
/// <param name="Log">What the assembler said; empty where the driver had the machine code in its cache on disk.</param>
internal sealed record LoadedKernel(nint Module, nint Function, int Registers, int LocalBytes, string Log);
