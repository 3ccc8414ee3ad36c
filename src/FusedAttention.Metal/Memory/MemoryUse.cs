using System.Runtime.InteropServices;

namespace FusedAttention.Metal.Memory;

/// <summary>Memory that a call reads, or also writes.</summary>
[StructLayout(LayoutKind.Auto)]
internal readonly record struct MemoryUse(SharedMemory Memory, bool IsWritten);
