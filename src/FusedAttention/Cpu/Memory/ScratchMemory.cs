using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace FusedAttention.Cpu.Memory;

/// <summary>A block of working memory that is handed out piece by piece, each aligned to a cache line. With a null start it only counts.</summary>
internal unsafe struct ScratchMemory(byte* start)
{
    private const int Alignment = 64;

    /// <summary>Bytes handed out.</summary>
    public long Used { get; private set; }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public T* Take<T>(long count)
        where T : unmanaged
    {
        T* piece = (T*)(start + Used);
        Used += ((count * sizeof(T)) + Alignment - 1) & ~(long)(Alignment - 1);
        return piece;
    }
}

/// <summary>
/// Blocks of native working memory, kept between calls: as many as there are processors, so that steady state allocates nothing and a burst of callers
/// does not leave its memory behind.
/// </summary>
internal static unsafe class ScratchPool
{
    // Working memory starts on a page of its own: tiles of powers of two then fall on the same cache sets in every call, not on luck.
    private const nuint PageSize = 4096;

    private static readonly Lock Gate = new();
    private static readonly (nint Start, long Bytes)[] Blocks = new (nint, long)[Math.Max(4, 2 * Environment.ProcessorCount)];
    private static int _count;

    /// <summary>A block of at least <paramref name="bytes"/> bytes.</summary>
    public static (nint Start, long Bytes) Rent(long bytes)
    {
        lock (Gate)
        {
            for (int i = _count - 1; i >= 0; i--)
            {
                if (Blocks[i].Bytes < bytes) continue;
                (nint Start, long Bytes) block = Blocks[i];
                Blocks[i] = Blocks[--_count];
                return block;
            }
        }

        // Rounded up so that slowly growing contexts do not ask for a new block each time.
        long size = Math.Max(64 * 1024, (long)System.Numerics.BitOperations.RoundUpToPowerOf2((ulong)bytes));
        return ((nint)NativeMemory.AlignedAlloc((nuint)size, PageSize), size);
    }

    /// <summary>Takes a block back. When the pool is full its smallest block goes.</summary>
    public static void Return((nint Start, long Bytes) block)
    {
        if (block.Start == 0) return;
        lock (Gate)
        {
            if (_count < Blocks.Length)
            {
                Blocks[_count++] = block;
                return;
            }

            for (int i = 0; i < _count; i++)
            {
                if (Blocks[i].Bytes < block.Bytes) (Blocks[i], block) = (block, Blocks[i]);
            }
        }

        NativeMemory.AlignedFree((void*)block.Start);
    }
}
