using System.Runtime.InteropServices;

namespace FusedAttention.Cuda.Memory;

/// <summary>Memory that a call reads, or also writes.</summary>
[StructLayout(LayoutKind.Auto)]
internal readonly record struct MemoryUse(TensorMemory Memory, bool IsWritten);
