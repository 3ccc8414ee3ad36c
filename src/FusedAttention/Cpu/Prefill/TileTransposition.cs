using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;

namespace FusedAttention.Cpu.Prefill;

/// <summary>Blocks of 16 x 16 elements of 32 bits: floats, or pairs of bfloat16.</summary>
internal static unsafe class TileTransposition
{
    /// <summary><c>destination[c * destinationStride + r] = source[r * sourceStride + c]</c>: 64 shuffles, which is 64 cycles of the port that has them.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void Run(uint* source, nint sourceStride, uint* destination, nint destinationStride)
    {
        Four(source, sourceStride, out Vector512<uint> a0, out Vector512<uint> a1, out Vector512<uint> a2, out Vector512<uint> a3);
        Four(source + (4 * sourceStride), sourceStride, out Vector512<uint> b0, out Vector512<uint> b1, out Vector512<uint> b2, out Vector512<uint> b3);
        Four(source + (8 * sourceStride), sourceStride, out Vector512<uint> c0, out Vector512<uint> c1, out Vector512<uint> c2, out Vector512<uint> c3);
        Four(source + (12 * sourceStride), sourceStride, out Vector512<uint> d0, out Vector512<uint> d1, out Vector512<uint> d2, out Vector512<uint> d3);
        Columns(a0, b0, c0, d0, destination, 4 * destinationStride);
        Columns(a1, b1, c1, d1, destination + destinationStride, 4 * destinationStride);
        Columns(a2, b2, c2, d2, destination + (2 * destinationStride), 4 * destinationStride);
        Columns(a3, b3, c3, d3, destination + (3 * destinationStride), 4 * destinationStride);
    }

    /// <summary>Four rows to four vectors, whose quarter n has column 4n + 0, 1, 2 or 3 of them.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Four(uint* rows, nint stride, out Vector512<uint> first, out Vector512<uint> second, out Vector512<uint> third, out Vector512<uint> fourth)
    {
        Vector512<uint> r0 = Vector512.Load(rows), r1 = Vector512.Load(rows + stride), r2 = Vector512.Load(rows + (2 * stride)), r3 = Vector512.Load(rows + (3 * stride));
        Vector512<ulong> low01 = Avx512F.UnpackLow(r0, r1).AsUInt64(), high01 = Avx512F.UnpackHigh(r0, r1).AsUInt64();
        Vector512<ulong> low23 = Avx512F.UnpackLow(r2, r3).AsUInt64(), high23 = Avx512F.UnpackHigh(r2, r3).AsUInt64();
        first = Avx512F.UnpackLow(low01, low23).AsUInt32();
        second = Avx512F.UnpackHigh(low01, low23).AsUInt32();
        third = Avx512F.UnpackLow(high01, high23).AsUInt32();
        fourth = Avx512F.UnpackHigh(high01, high23).AsUInt32();
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Columns(Vector512<uint> a, Vector512<uint> b, Vector512<uint> c, Vector512<uint> d, uint* destination, nint stride)
    {
        Vector512<uint> evenAb = Avx512F.Shuffle4x128(a, b, 0x88), oddAb = Avx512F.Shuffle4x128(a, b, 0xDD);
        Vector512<uint> evenCd = Avx512F.Shuffle4x128(c, d, 0x88), oddCd = Avx512F.Shuffle4x128(c, d, 0xDD);
        Avx512F.Shuffle4x128(evenAb, evenCd, 0x88).Store(destination);
        Avx512F.Shuffle4x128(oddAb, oddCd, 0x88).Store(destination + stride);
        Avx512F.Shuffle4x128(evenAb, evenCd, 0xDD).Store(destination + (2 * stride));
        Avx512F.Shuffle4x128(oddAb, oddCd, 0xDD).Store(destination + (3 * stride));
    }
}
