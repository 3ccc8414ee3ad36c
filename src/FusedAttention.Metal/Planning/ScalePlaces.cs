using System.Numerics;
using System.Runtime.InteropServices;
using FusedAttention.Devices;

namespace FusedAttention.Metal.Planning;

/// <summary>Where the scales of 8-bit keys, or of values, lie, as <c>scales.metal</c> reads it: <see cref="ScaleStrides"/> without a division, for which no GPU has an instruction.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct ScalePlaces
{
    public long SequenceStride;

    /// <summary>By what the beginning of a sequence's keys, shifted, is multiplied for that of its scales: modulo 2^64, where multiples of an odd number are divided by it with the number's inverse. 0 where they begin by the sequence's number.</summary>
    public ulong StartFactor;
    public long BlockStride;
    public long TokenStride;
    public long HeadStride;

    /// <summary>By how many bits the beginning is shifted to the right.</summary>
    public int StartShift;
    public int Reserved;

    public static ScalePlaces Of(in ScaleStrides strides)
    {
        var places = new ScalePlaces { SequenceStride = strides.SequenceStride, BlockStride = strides.BlockStride, TokenStride = strides.TokenStride, HeadStride = strides.HeadStride };
        if (strides.TokenDivisor == 0) return places;
        places.SequenceStride = 0;
        places.StartShift = BitOperations.TrailingZeroCount(strides.TokenDivisor);
        places.StartFactor = unchecked(Inverse((ulong)strides.TokenDivisor >> places.StartShift) * (ulong)strides.TokenStride);
        return places;
    }

    /// <summary>Of an odd number, modulo 2^64: each step doubles the bits that are right, and the number itself has three.</summary>
    private static ulong Inverse(ulong odd)
    {
        ulong inverse = odd;
        for (int bits = 3; bits < 64; bits *= 2) inverse = unchecked(inverse * (2 - (odd * inverse)));
        return inverse;
    }
}
