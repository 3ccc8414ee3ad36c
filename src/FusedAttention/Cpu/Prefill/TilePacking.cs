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
        // Pairs of keys of 32 dims: of the dims 0 to 3, 8 to 11, 16 to 19 and 24 to 27 first, and of the others behind, as unpacking has them. The transposition's rows go where their dims belong.
        uint* pairs = stackalloc uint[2 * 16 * 16];
        uint* transposed = stackalloc uint[16 * 16];
        for (int j = start / 32 * 32; j < stop; j += 32)
        {
            byte* destination = packed + (j / 32 * TileBytes);
            for (int d = 0; d < dim; d += Lanes, destination += 2 * ValueBlockBytes)
            {
                int count = Math.Min(dim - d, Lanes);
                for (int i = 0; i < 16; i++)
                {
                    int key = j + (2 * i);
                    Vector512<ushort> even = key >= start && key < stop ? Load((ushort*)(rows[key] + headOffset) + d, count) : Vector512<ushort>.Zero;
                    Vector512<ushort> odd = key + 1 >= start && key + 1 < stop ? Load((ushort*)(rows[key + 1] + headOffset) + d, count) : Vector512<ushort>.Zero;
                    Avx512BW.UnpackLow(even, odd).AsUInt32().Store(pairs + (16 * i));
                    Avx512BW.UnpackHigh(even, odd).AsUInt32().Store(pairs + 256 + (16 * i));
                }

                for (int half = 0; half < 2; half++)
                {
                    TileTransposition.Run(pairs + (256 * half), 16, transposed, 16);
                    for (int four = 0; four < 4; four++)
                    {
                        int first = (8 * four) + (4 * half);
                        if (first >= (count + 15) / 16 * 16) continue;
                        uint* tile = (uint*)(destination + (first / 16 * ValueBlockBytes)) + (first % 16 * 16);
                        for (int i = 0; i < 4; i++) Vector512.Load(transposed + (((4 * four) + i) * 16)).Store(tile + (16 * i));
                    }
                }
            }
        }
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
