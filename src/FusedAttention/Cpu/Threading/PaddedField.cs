using System.Runtime.InteropServices;

namespace FusedAttention.Cpu.Threading;

/// <summary>
/// A field alone on its cache lines: 128 bytes on either side, because Apple's lines have 128 and x86 fetches its 64-byte lines in pairs. Without it the
/// threads that bump an item counter would take the job's read-only fields away from each other.
/// </summary>
[StructLayout(LayoutKind.Explicit, Size = 256)]
internal struct PaddedInt64
{
    [FieldOffset(128)]
    public long Value;
}

/// <inheritdoc cref="PaddedInt64"/>
[StructLayout(LayoutKind.Explicit, Size = 256)]
internal struct PaddedInt32
{
    [FieldOffset(128)]
    public int Value;
}
