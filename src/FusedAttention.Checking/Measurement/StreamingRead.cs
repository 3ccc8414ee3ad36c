using System.Diagnostics;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;

namespace FusedAttention.Checking.Measurement;

/// <summary>
/// The rate at which memory beyond every cache can be read. One plain loop under-measures it: how many streams are read side by side, and how far ahead they ask for
/// lines, decides how many misses are under way at once. So several ways are tried and the best one is the machine's rate.
/// </summary>
public static unsafe class StreamingRead
{
    /// <summary>Well beyond the third-level cache of any processor, as long as memory has the room.</summary>
    private const long PreferredBytes = 1L << 30;

    /// <summary>Bytes read of one stream before the next one's turn: four cache lines.</summary>
    private const int Turn = 256;

    private static readonly int[] StreamCounts = [1, 2, 4, 8];
    private static readonly int[] Distances = [0, 512, 1024, 2048];

    /// <summary>GB/s of all threads together: the best trial of the best way.</summary>
    public static double Measure(int threads, TimeSpan time)
    {
        // A part of one thread is a whole number of turns of the largest number of streams.
        long unit = (long)Turn * StreamCounts[^1] * threads;
        long bytes = Math.Min(PreferredBytes, GC.GetGCMemoryInfo().TotalAvailableMemoryBytes / 4) / unit * unit;
        void* memory = NativeMemory.AlignedAlloc((nuint)bytes, 4096);
        try
        {
            // Written once: pages that were never written may all be one page of zeros.
            for (long i = 0; i < bytes; i += 4096) new Span<byte>((byte*)memory + i, (int)Math.Min(4096, bytes - i)).Fill((byte)(i >> 12));
            return Measure((nint)memory, bytes / threads, threads, time);
        }
        finally
        {
            NativeMemory.AlignedFree(memory);
        }
    }

    private static double Measure(nint memory, long part, int threads, TimeSpan time)
    {
        ulong[] sinks = new ulong[threads];
        (int Streams, int Distance) way = default;
        double best = 0;
        long start = Stopwatch.GetTimestamp();
        foreach (int streams in StreamCounts)
        {
            foreach (int distance in Distances)
            {
                if (Trial(streams, distance)) way = (streams, distance);
            }
        }

        while (Stopwatch.GetElapsedTime(start) < time) Trial(way.Streams, way.Distance);
        return best;

        bool Trial(int streams, int distance)
        {
            double seconds = ConcurrentTrial.Run(threads, i => sinks[i] = Read((byte*)memory + (i * part), part, streams, distance));
            double rate = part * threads / seconds / 1e9;
            if (rate <= best) return false;
            best = rate;
            return true;
        }
    }

    /// <summary>Reads all bytes, in turns, from <paramref name="streams"/> places at once.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization | MethodImplOptions.NoInlining)]
    private static ulong Read(byte* source, long length, int streams, int distance)
    {
        Vector256<ulong> a = default, b = default, c = default, d = default;
        long stride = length / streams;
        for (long i = 0; i < stride; i += Turn)
        {
            byte* at = source + i;
            for (int s = 0; s < streams; s++)
            {
                if (distance != 0)
                {
                    Prefetch(at + distance);
                    Prefetch(at + distance + 64);
                    Prefetch(at + distance + 128);
                    Prefetch(at + distance + 192);
                }

                a |= Vector256.Load((ulong*)at);
                b |= Vector256.Load((ulong*)(at + 32));
                c |= Vector256.Load((ulong*)(at + 64));
                d |= Vector256.Load((ulong*)(at + 96));
                a |= Vector256.Load((ulong*)(at + 128));
                b |= Vector256.Load((ulong*)(at + 160));
                c |= Vector256.Load((ulong*)(at + 192));
                d |= Vector256.Load((ulong*)(at + 224));
                at += stride;
            }
        }

        return ((a | b) | (c | d)).ToScalar();
    }

    /// <summary>Asks for a line; never faults, so it may pass the end. Arm has no such call here and relies on its hardware.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Prefetch(byte* address)
    {
        if (Sse.IsSupported) Sse.Prefetch0(address);
    }
}
