using System.Runtime.InteropServices;

namespace FusedAttention.Cuda.Emulation.Memory;

/// <summary>Memory of the emulated device: its bytes, and of each whether anybody has written it.</summary>
/// <param name="start">Where the device sees it.</param>
/// <param name="bytes">Its length.</param>
internal sealed unsafe class Allocation(ulong start, long bytes) : IDisposable
{
    private int _isReleased;

    public ulong Start { get; } = start;

    public long Bytes { get; } = bytes;

    /// <summary>Where the processor has it. Pages that nobody touches cost nothing, however many there are.</summary>
    public byte* Pointer { get; } = (byte*)NativeMemory.AllocZeroed((nuint)bytes);

    /// <summary>1 for each byte that was written, by a kernel or a copy.</summary>
    public byte* Written { get; } = (byte*)NativeMemory.AllocZeroed((nuint)bytes);

    /// <summary>Whether its owner has given it back.</summary>
    public bool IsFreed { get; set; }

    public void MarkWritten(ulong address, long count) => NativeMemory.Fill(Written + (address - Start), (nuint)count, 1);

    /// <summary>The first of some bytes that nobody has written; -1 where there is none.</summary>
    public long FirstUnwritten(long offset, long count)
    {
        for (long done = 0; done < count;)
        {
            int part = (int)Math.Min(count - done, 1 << 30);
            int at = new ReadOnlySpan<byte>(Written + offset + done, part).IndexOf((byte)0);
            if (at >= 0) return offset + done + at;
            done += part;
        }

        return -1;
    }

    public override string ToString() => $"0x{Start:x} to 0x{Start + (ulong)Bytes:x} ({Bytes} bytes{(IsFreed ? ", freed" : "")})";

    public void Dispose()
    {
        if (Interlocked.Exchange(ref _isReleased, 1) != 0) return;
        NativeMemory.Free(Pointer);
        NativeMemory.Free(Written);
    }
}
