using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;
using FusedAttention.Cpu.MachineCode.Kernels;
using FusedAttention.Cpu.Planning;
using FusedAttention.Problems;

namespace FusedAttention.Cpu.Prefill;

/// <summary>
/// Queries, keys and values of bfloat16 as the tiles that products read, 16 rows of 64 bytes one behind the other. Nothing is widened. K is copied, 16 keys of 32 dims; Q and V are transposed by pairs: Q 16 rows across and
/// pairs of dims down, V 16 dims down and pairs of keys across.
/// </summary>
internal static unsafe class TilePacking
{
    private const int TileBytes = TileScores.TileBytes;
    private const int RowBytes = 64;

    /// <summary>Elements of a vector.</summary>
    private const int Lanes = 32;

    /// <summary>Bytes of values from 16 dims to the next.</summary>
    private const int ValueBlockBytes = PrefillTiles.Keys / 32 * TileBytes;

    /// <summary>Twice the bits of <see cref="FloatRange.LargestKey"/> without a sign: from there on an element may be too large for a dot product, infinite or NaN.</summary>
    private const ushort LargestDoubled = (127 + 40) << 8;

    /// <summary>Twice the bits of infinity: it and NaN, without a sign.</summary>
    private const ushort FirstSpecialDoubled = 0xFF00;

    /// <summary>Blocks of 32 dims of queries and keys.</summary>
    public static int KeyBlocks(int keyDim) => (keyDim + 31) / 32;

    /// <summary>Blocks of 16 dims of values.</summary>
    public static int ValueBlocks(int valueDim) => (valueDim + 15) / 16;

    /// <summary>16 rows of queries; elements beyond the dimension are 0.</summary>
    /// <param name="rows">Their addresses; 0 for a row of zeros.</param>
    /// <param name="dim">Their elements.</param>
    /// <param name="packed">The rows' first tile.</param>
    /// <returns>For each row a bit that says whether an element may be too large.</returns>
    [SkipLocalsInit]
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static uint PackQueries(nint* rows, int dim, byte* packed)
    {
        uint large = 0;
        ushort* block = stackalloc ushort[16 * Lanes];
        for (int d = 0; d < dim; d += Lanes, packed += TileBytes)
        {
            for (int r = 0; r < 16; r++)
            {
                Vector512<ushort> elements = rows[r] == 0 ? Vector512<ushort>.Zero : Load((ushort*)rows[r] + d, Math.Min(dim - d, Lanes));
                elements.Store(block + (r * Lanes));
                if (AnyAbove(elements, LargestDoubled)) large |= 1u << r;
            }

            TileTransposition.Run((uint*)block, 16, (uint*)packed, 16);
        }

        return large;
    }

    /// <summary>Keys [start, stop) of a tile. Places without a key are zeros within the blocks of 32 that have one.</summary>
    /// <returns>Whether an element may be too large for a dot product.</returns>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static bool PackKeys(nint* rows, nint headOffset, int start, int stop, int dim, byte* packed)
    {
        int blocks = KeyBlocks(dim);
        Vector512<ushort> most = Vector512<ushort>.Zero;
        for (int j = start / 32 * 32; j < (stop + 31) / 32 * 32; j++)
        {
            byte* destination = packed + ((nint)(j / 16) * blocks * TileBytes) + (j % 16 * RowBytes);
            bool has = j >= start && j < stop;
            ushort* row = has ? (ushort*)(rows[j] + headOffset) : null;
            for (int d = 0; d < dim; d += Lanes, destination += TileBytes)
            {
                Vector512<ushort> elements = !has ? Vector512<ushort>.Zero : Load(row + d, Math.Min(dim - d, Lanes));
                most = Vector512.Max(most, elements + elements);
                elements.Store((ushort*)destination);
            }
        }

        return Vector512.GreaterThanOrEqualAny(most, Vector512.Create(LargestDoubled));
    }

    /// <summary>Values of keys [start, stop) of a tile. Places without a key are zeros within the blocks of 32 that have one, because 0 times what lies there would count.</summary>
    [SkipLocalsInit]
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void PackValues(nint* rows, nint headOffset, int start, int stop, int dim, byte* packed)
    {
        // Rows of 32 keys first lie side by side: in the cache, keys a power of two apart would drive each other out before all their dims were read.
        ushort* rowsOf32 = stackalloc ushort[32 * Lanes];
        for (int j = start / 32 * 32; j < stop; j += 32)
        {
            byte* destination = packed + (j / 32 * TileBytes);
            for (int d = 0; d < dim; d += Lanes, destination += 2 * ValueBlockBytes)
            {
                int count = Math.Min(dim - d, Lanes);
                for (int i = 0; i < 32; i++)
                {
                    bool has = j + i >= start && j + i < stop;
                    (has ? Load((ushort*)(rows[j + i] + headOffset) + d, count) : Vector512<ushort>.Zero).Store(rowsOf32 + (i * Lanes));
                }

                for (int first = 0; first < (count + 15) / 16 * 16; first += 8)
                {
                    TransposeKeys(rowsOf32 + first, (ushort*)(destination + (first / 16 * ValueBlockBytes)) + (first % 16 * Lanes));
                }
            }
        }
    }

    /// <summary>8 dims of 32 keys to 8 rows of 32 keys. A vector has the 8 dims of keys 8 apart in its quarters, which loads bring there; within quarters 8 x 8 elements are transposed: 24 shuffles.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void TransposeKeys(ushort* keys, ushort* destination)
    {
        Four(keys, out Vector512<ulong> low0, out Vector512<ulong> low1, out Vector512<ulong> low2, out Vector512<ulong> low3);
        Four(keys + (4 * Lanes), out Vector512<ulong> high0, out Vector512<ulong> high1, out Vector512<ulong> high2, out Vector512<ulong> high3);
        Avx512F.UnpackLow(low0, high0).AsUInt16().Store(destination);
        Avx512F.UnpackHigh(low0, high0).AsUInt16().Store(destination + Lanes);
        Avx512F.UnpackLow(low1, high1).AsUInt16().Store(destination + (2 * Lanes));
        Avx512F.UnpackHigh(low1, high1).AsUInt16().Store(destination + (3 * Lanes));
        Avx512F.UnpackLow(low2, high2).AsUInt16().Store(destination + (4 * Lanes));
        Avx512F.UnpackHigh(low2, high2).AsUInt16().Store(destination + (5 * Lanes));
        Avx512F.UnpackLow(low3, high3).AsUInt16().Store(destination + (6 * Lanes));
        Avx512F.UnpackHigh(low3, high3).AsUInt16().Store(destination + (7 * Lanes));
    }

    /// <summary>Four keys, and those 8, 16 and 24 behind them: of two dims each, the four keys side by side.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Four(ushort* keys, out Vector512<ulong> dims01, out Vector512<ulong> dims23, out Vector512<ulong> dims45, out Vector512<ulong> dims67)
    {
        Vector512<ushort> k0 = Quarters(keys), k1 = Quarters(keys + Lanes), k2 = Quarters(keys + (2 * Lanes)), k3 = Quarters(keys + (3 * Lanes));
        Vector512<uint> low01 = Avx512BW.UnpackLow(k0, k1).AsUInt32(), high01 = Avx512BW.UnpackHigh(k0, k1).AsUInt32();
        Vector512<uint> low23 = Avx512BW.UnpackLow(k2, k3).AsUInt32(), high23 = Avx512BW.UnpackHigh(k2, k3).AsUInt32();
        dims01 = Avx512F.UnpackLow(low01, low23).AsUInt64();
        dims23 = Avx512F.UnpackHigh(low01, low23).AsUInt64();
        dims45 = Avx512F.UnpackLow(high01, high23).AsUInt64();
        dims67 = Avx512F.UnpackHigh(high01, high23).AsUInt64();
    }

    /// <summary>8 elements of each of four keys that are 8 apart.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector512<ushort> Quarters(ushort* keys)
    {
        Vector512<ushort> quarters = Vector128.Load(keys).ToVector256Unsafe().ToVector512Unsafe();
        quarters = Avx512F.InsertVector128(quarters, Vector128.Load(keys + (8 * Lanes)), 1);
        quarters = Avx512F.InsertVector128(quarters, Vector128.Load(keys + (16 * Lanes)), 2);
        return Avx512F.InsertVector128(quarters, Vector128.Load(keys + (24 * Lanes)), 3);
    }

    /// <summary>A row's weights to bfloat16 in their own place, to the nearest.</summary>
    /// <param name="weights">The row.</param>
    /// <param name="firstVector">The first vector of 16 weights; even.</param>
    /// <param name="endVector">One past the last; even.</param>
    /// <returns>Their sum.</returns>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static float RoundWeights(float* weights, int firstVector, int endVector)
    {
        Vector512<float> sum = Vector512<float>.Zero;
        Vector512<ushort> upperHalves = Vector512.Create((ushort)1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31, 33, 35, 37, 39, 41, 43, 45, 47, 49, 51, 53, 55, 57, 59, 61, 63);
        for (int v = firstVector; v < endVector; v += 2)
        {
            Vector512<uint> a = TileSoftmax.Rounded(Vector512.Load(weights + (16 * v))), b = TileSoftmax.Rounded(Vector512.Load(weights + (16 * (v + 1))));
            Avx512BW.PermuteVar32x16x2(a.AsUInt16(), upperHalves, b.AsUInt16()).Store((ushort*)weights + (16 * v));
            sum = sum + a.AsSingle() + b.AsSingle();
        }

        return Numerics.Avx512Simd.Sum(sum);
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
        ((ushort*)(packed + ((nint)(dim / 16) * ValueBlockBytes) + (key / 32 * TileBytes)))[(dim % 16 * Lanes) + (key % 32)];

    /// <summary>Elements of a row; those from <paramref name="count"/> on are 0, and not read.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector512<ushort> Load(ushort* elements, int count) => count == Lanes ? Vector512.Load(elements) : LoadFew(elements, count);

    [MethodImpl(MethodImplOptions.NoInlining)]
    private static Vector512<ushort> LoadFew(ushort* elements, int count)
    {
        Vector512<ushort> vector = Vector512<ushort>.Zero;
        for (int i = 0; i < count; i++) ((ushort*)&vector)[i] = elements[i];
        return vector;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static bool AnyAbove(Vector512<ushort> elements, ushort doubled) => Vector512.GreaterThanOrEqualAny(elements + elements, Vector512.Create(doubled));
}
