using System.Runtime.CompilerServices;
using FusedAttention.Cpu.Rotary;
using FusedAttention.Tensors;

namespace FusedAttention.Cpu;

/// <summary>The heads of one token, rotated to where they belong: in place, or converted on the way.</summary>
internal static unsafe class RotaryPass
{
    /// <summary>Pairs whose angles are on the stack at a time, 2 KB: more than the heads of today have, so that angles are computed once a token.</summary>
    private const int PairsAtOnce = 256;

    /// <param name="kernels">What computes.</param>
    /// <param name="turns">The embedding.</param>
    /// <param name="position">Where the token stands.</param>
    /// <param name="heads">How many heads it has.</param>
    /// <param name="source">Where they are.</param>
    /// <param name="destination">Where they go: the same memory with the same type and stride, or other memory.</param>
    [SkipLocalsInit]
    public static void Rotate(CpuKernels kernels, RotaryTurns turns, int position, int heads, in HeadRows source, in HeadRows destination)
    {
        float* cosines = stackalloc float[PairsAtOnce];
        float* sines = stackalloc float[PairsAtOnce];
        for (int pair = 0; pair < turns.Pairs; pair += PairsAtOnce)
        {
            int count = Math.Min(PairsAtOnce, turns.Pairs - pair);
            turns.Angles.Write(position, pair, count, cosines, sines);
            kernels.Rotate(new()
            {
                Source = source,
                Destination = destination,
                Heads = heads,
                First = turns.ElementOf(pair),
                Distance = turns.Distance,
                Pairs = count,
                Cosines = cosines,
                Sines = sines,
            });
        }

        if (source.First == destination.First) return;
        Convert(heads, source, destination, 0, turns.Start);
        Convert(heads, source, destination, turns.End, turns.HeadDim);
    }

    /// <summary>Elements that are not rotated.</summary>
    private static void Convert(int heads, in HeadRows source, in HeadRows destination, int from, int to)
    {
        if (from == to) return;
        byte* read = (byte*)source.First + (from * source.Type.Size()), written = (byte*)destination.First + (from * destination.Type.Size());
        for (int head = 0; head < heads; head++, read += source.Stride * source.Type.Size(), written += destination.Stride * destination.Type.Size())
            ElementConversion.Convert(source.Type, read, destination.Type, written, to - from);
    }
}
