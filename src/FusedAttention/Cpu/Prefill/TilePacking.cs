using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;
using FusedAttention.Cpu.MachineCode.Kernels;
using FusedAttention.Cpu.Numerics;
using FusedAttention.Cpu.Planning;
using FusedAttention.Problems;

namespace FusedAttention.Cpu.Prefill;

/// <summary>
/// Queries, keys, values and weights of bfloat16 as the tiles that products read, 16 rows of 64 bytes one behind the other. Nothing is widened: Q and P are rows of 32 elements, K 16 keys across and pairs of dims down (a transposition
/// of pairs), V 16 dims across and pairs of keys down.
/// </summary>
internal static unsafe class TilePacking
{
    private const int TileBytes = TileScores.TileBytes;
    private const int RowBytes = 64;

    /// <summary>Twice the bits of <see cref="FloatRange.LargestKey"/> without a sign: from there on an element may be too large for a dot product, infinite or NaN.</summary>
    private const ushort LargestDoubled = (127 + 40) << 8;

    /// <summary>Twice the bits of infinity: it and NaN, without a sign.</summary>
    private const ushort FirstSpecialDoubled = 0xFF00;

    /// <summary>Blocks of 32 dims of queries and keys.</summary>
    public static int KeyBlocks(int keyDim) => (keyDim + 31) / 32;

    /// <summary>Blocks of 16 dims of values.</summary>
    public static int ValueBlocks(int valueDim) => (valueDim + 15) / 16;

    /// <summary>One row of queries to its place; elements beyond the dimension are 0. Says whether one may be too large.</summary>
    public static bool PackQuery(byte* row, int dim, byte* packed, int index)
    {
        int blocks = KeyBlocks(dim);
        byte* destination = packed + ((nint)(index / 16) * blocks * TileBytes) + (index % 16 * RowBytes);
        for (int b = 0; b < blocks; b++)
        {
            int bytes = Math.Min(RowBytes, (dim * sizeof(ushort)) - (b * RowBytes));
            var place = new Span<byte>(destination + (b * TileBytes), RowBytes);
            new ReadOnlySpan<byte>(row + (b * RowBytes), bytes).CopyTo(place);
            place[bytes..].Clear();
        }

        return AnyAbove((ushort*)row, dim, LargestDoubled);
    }

    /// <summary>Keys [start, stop) of a tile. Places without a key are zeros within the blocks of 32 that have one.</summary>
    /// <returns>Whether an element may be too large for a dot product.</returns>
    [SkipLocalsInit]
    public static bool PackKeys(nint* rows, nint headOffset, int start, int stop, int dim, byte* packed)
    {
        bool large = false;
        int blocks = KeyBlocks(dim);
        int pairs = dim / 2;
        int whole = pairs / 8 * 8;
        nint* source = stackalloc nint[16];
        ushort* none = stackalloc ushort[dim];
        new Span<ushort>(none, dim).Clear();
        for (int j = start / 32 * 32; j < stop; j += 16)
        {
            byte* tiles = packed + ((nint)(j / 16) * blocks * TileBytes);
            for (int i = 0; i < 16; i++)
            {
                bool has = j + i >= start && j + i < stop;
                source[i] = has ? rows[j + i] + headOffset : (nint)none;
                if (has) large |= AnyAbove((ushort*)source[i], dim, LargestDoubled);
            }

            // A pair is moved as a float is; no arithmetic looks at it.
            for (int d = 0; d < whole; d += 8)
            {
                float* tile = (float*)(tiles + (d / 16 * TileBytes)) + (d % 16 * 16);
                Avx2Simd.Transpose(source, d, tile, 16);
                Avx2Simd.Transpose(source + 8, d, tile + 8, 16);
            }

            for (int d = whole; d < 16 * blocks; d++)
            {
                uint* row = (uint*)(tiles + (d / 16 * TileBytes)) + (d % 16 * 16);
                for (int i = 0; i < 16; i++)
                {
                    ushort* key = (ushort*)source[i];
                    row[i] = 2 * d >= dim ? 0 : (2 * d) + 1 >= dim ? key[2 * d] : key[2 * d] | ((uint)key[(2 * d) + 1] << 16);
                }
            }
        }

        return large;
    }

    /// <summary>Values of keys [start, stop) of a tile. Places without a key are zeros within the blocks of 32 that have one, because 0 times what lies there would count.</summary>
    [SkipLocalsInit]
    public static void PackValues(nint* rows, nint headOffset, int start, int stop, int dim, byte* packed)
    {
        ushort* none = stackalloc ushort[dim];
        new Span<ushort>(none, dim).Clear();
        int whole = dim / 16;
        for (int j = start / 32 * 32; j < (stop + 31) / 32 * 32; j += 2)
        {
            ushort* first = j >= start && j < stop ? (ushort*)(rows[j] + headOffset) : none;
            ushort* second = j + 1 >= start && j + 1 < stop ? (ushort*)(rows[j + 1] + headOffset) : none;
            byte* destination = packed + (j / 32 * TileBytes) + (j % 32 / 2 * RowBytes);
            for (int b = 0; b < whole; b++)
            {
                Vector512<uint> low = Avx512F.ConvertToVector512UInt32(Vector256.Load(first + (16 * b)));
                Vector512<uint> high = Avx512F.ConvertToVector512UInt32(Vector256.Load(second + (16 * b)));
                (low | (high << 16)).Store((uint*)(destination + ((nint)b * (PrefillTiles.Keys / 32) * TileBytes)));
            }

            if (16 * whole == dim) continue;
            uint* last = (uint*)(destination + ((nint)whole * (PrefillTiles.Keys / 32) * TileBytes));
            for (int i = 0; i < 16; i++)
            {
                int d = (16 * whole) + i;
                last[i] = d < dim ? first[d] | ((uint)second[d] << 16) : 0;
            }
        }
    }

    /// <summary>A row's weights to bfloat16 in their own place, to the nearest.</summary>
    /// <param name="weights">The row.</param>
    /// <param name="firstVector">The first vector of 16 weights; even.</param>
    /// <param name="endVector">One past the last; even.</param>
    /// <returns>What rounding added to their sum.</returns>
    public static float RoundWeights(float* weights, int firstVector, int endVector)
    {
        Vector512<float> added = Vector512<float>.Zero;
        Vector512<ushort> upperHalves = Vector512.Create((ushort)1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31, 33, 35, 37, 39, 41, 43, 45, 47, 49, 51, 53, 55, 57, 59, 61, 63);
        for (int v = firstVector; v < endVector; v += 2)
        {
            Vector512<uint> a = Rounded(weights + (16 * v), ref added);
            Vector512<uint> b = Rounded(weights + (16 * (v + 1)), ref added);
            Avx512BW.PermuteVar32x16x2(a.AsUInt16(), upperHalves, b.AsUInt16()).Store((ushort*)weights + (16 * v));
        }

        return Avx512Simd.Sum(added);
    }

    /// <summary>Puts zeros for infinite and NaN values of a packed tile of values.</summary>
    public static void ClearSpecialValues(byte* packed, int tiles)
    {
        ushort* values = (ushort*)packed;
        for (nint i = 0; i < (nint)tiles * TileBytes / sizeof(ushort); i++)
        {
            if (IsSpecial(values[i])) values[i] = 0;
        }
    }

    public static bool IsSpecial(ushort value) => (ushort)(value << 1) >= FirstSpecialDoubled;

    /// <summary>A value of a packed tile: of a key and a dim.</summary>
    public static ushort ValueAt(byte* packed, int key, int dim) =>
        ((ushort*)(packed + (((nint)(dim / 16) * (PrefillTiles.Keys / 32)) + (key / 32)) * TileBytes))[(key % 32 / 2 * 32) + (dim % 16 * 2) + (key % 2)];

    private static Vector512<uint> Rounded(float* weights, ref Vector512<float> added)
    {
        // Weights are not negative, and at most 1: half of what is cut off is added first. NaN, of rows that are computed again, may become anything.
        Vector512<float> exact = Vector512.Load(weights);
        Vector512<uint> rounded = (exact.AsUInt32() + Vector512.Create(0x8000u)) & Vector512.Create(0xFFFF0000u);
        added += rounded.AsSingle() - exact;
        return rounded;
    }

    private static bool AnyAbove(ushort* elements, int count, ushort doubled)
    {
        Vector512<ushort> most = Vector512<ushort>.Zero;
        int i = 0;
        for (; i + Vector512<ushort>.Count <= count; i += Vector512<ushort>.Count) most = Vector512.Max(most, Vector512.Load(elements + i) + Vector512.Load(elements + i));
        bool any = Vector512.GreaterThanOrEqualAny(most, Vector512.Create(doubled));
        for (; i < count; i++) any |= (ushort)(elements[i] << 1) >= doubled;
        return any;
    }
}
