using System.Runtime.InteropServices;

namespace FusedAttention.Comparison.Cases;

/// <summary>Memory outside the garbage collector's reach, aligned to a cache line: every contender works on memory of this one kind.</summary>
internal sealed unsafe class AlignedBuffer : IDisposable
{
    public AlignedBuffer(long bytes)
    {
        Length = bytes;
        Pointer = (byte*)NativeMemory.AlignedAlloc((nuint)Math.Max(bytes, 64), 64);

        // Every page is written before a contender is timed on it.
        NativeMemory.Clear(Pointer, (nuint)Math.Max(bytes, 64));
    }

    public byte* Pointer { get; private set; }

    public long Length { get; }

    public Span<T> Elements<T>(long start, int count)
        where T : unmanaged
    {
        ArgumentOutOfRangeException.ThrowIfGreaterThan((start + count) * sizeof(T), Length);
        return new((T*)Pointer + start, count);
    }

    public void Dispose()
    {
        NativeMemory.AlignedFree(Pointer);
        Pointer = null;
    }
}
