using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;

namespace FusedAttention.Cuda.Emulation.Machine;

/// <summary>Rows of 32 lanes as vectors, and masks of lanes as bits.</summary>
internal static unsafe class Lanes
{
    public const int Count = 32;
    public const uint All = uint.MaxValue;

    /// <summary>What lanes of 32 bits hold, lane 0 first: half of the row.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector512<uint> Half(byte* row, int half) => ((Vector512<uint>*)row)[half];

    /// <summary>A quarter of a row of 64 bits.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector512<ulong> Quarter(byte* row, int quarter) => ((Vector512<ulong>*)row)[quarter];

    /// <summary>Stores the lanes of a mask.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Store(byte* row, uint mask, Vector512<uint> first, Vector512<uint> second)
    {
        var to = (Vector512<uint>*)row;
        if (mask != All)
        {
            first = Vector512.ConditionalSelect(MaskOf(mask), first, to[0]);
            second = Vector512.ConditionalSelect(MaskOf(mask >> 16), second, to[1]);
        }

        to[0] = first;
        to[1] = second;
    }

    /// <summary>Stores a quarter of a row of 64 bits, in the lanes of a mask of the whole row.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Store(byte* row, uint mask, int quarter, Vector512<ulong> value)
    {
        Vector512<ulong>* to = (Vector512<ulong>*)row + quarter;
        *to = mask == All ? value : Vector512.ConditionalSelect(WideMaskOf(mask >> (8 * quarter)), value, *to);
    }

    /// <summary>All ones in the lanes whose bits are set, of the lowest 16.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector512<uint> MaskOf(uint mask)
    {
        Vector512<uint> bits = Vector512.Create(1u, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768);
        return Vector512.Equals(Vector512.Create(mask) & bits, bits);
    }

    /// <summary>A bit for each lane whose comparison holds.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static uint BitsOf(Vector512<uint> first, Vector512<uint> second) => (uint)first.ExtractMostSignificantBits() | ((uint)second.ExtractMostSignificantBits() << 16);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static uint BitsOf(Vector512<ulong> comparison, int quarter) => (uint)comparison.ExtractMostSignificantBits() << (8 * quarter);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector512<ulong> WideMaskOf(uint mask)
    {
        Vector512<ulong> bits = Vector512.Create(1UL, 2, 4, 8, 16, 32, 64, 128);
        return Vector512.Equals(Vector512.Create((ulong)mask) & bits, bits);
    }
}
