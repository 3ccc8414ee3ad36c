using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;
using FusedAttention.Cpu.MachineCode.Kernels;
using FusedAttention.Cpu.Numerics;
using FusedAttention.Cpu.Planning;
using FusedAttention.Problems;
using FusedAttention.Tensors;

namespace FusedAttention.Cpu.Decode;

/// <summary>
/// The products of 8-bit integers by machine code, where a head has four rows or a multiple and queries are of 16 bits: queries and weights become 16-bit integers, and sums are exact. Floats would take a multiply-add for 16
/// elements and two instructions to widen them, this one for 32 and one.
/// </summary>
/// <remarks>
/// <para>A query is rounded to multiples of a power of two, 2^-14 of that of its largest element: of binary16 only what is below a 16th of the largest is rounded at all, of bfloat16 below a 128th. Weights, times the scales of
/// their values, are rounded to multiples of 1/32767 of the largest of a row and tile: half of that is 2^-16 of it, against the 2^-12 that a row of binary16 loses at its end.</para>
/// <para>Both follow from the row and the tile alone, and the sums of integers from nothing else; so rows keep their bits whatever is beside them.</para>
/// </remarks>
internal readonly unsafe struct IntegerProducts : IDecodeProducts
{
    private const int Width = 16;
    private const int KeysOfProduct = 4;
    private const int MostKeyDims = 4096;
    private const int Infinity = 0x7F800000;
    private const int Magnitude = 0x7FFFFFFF;
    private const float LargestWord = 32767;

    // Below it the factor that makes its largest weight 32767 would overflow.
    private const float SmallestWeight = 1e-30f;

    /// <summary>Whether a sequence's rows are served.</summary>
    public static bool Takes(AttentionProblem problem, int rowsPerHead) => Takes(problem) && rowsPerHead % DecodeTiles.Rows == 0;

    /// <summary>
    /// Whether a call is served: its types, and dimensions of whole vectors. Not where the log-sum-exp is asked for, which has 24 bits whatever the outputs have, and would show what is lost of a query: up to 9e-5 in the reference set.
    /// </summary>
    public static bool Takes(AttentionProblem problem) =>
        problem.KeyValueType == AttentionElementType.Int8 && !problem.HasLogSumExp && problem.QueryType.Size() == sizeof(ushort)
        && problem.KeyDim % (2 * Width) == 0 && problem.KeyDim <= MostKeyDims && problem.ValueDim % DecodeSums.IntegerColumns == 0;

    /// <summary>Rounds the queries.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void Prepare(AttentionProblem problem, in WorkItem item, in DecodeLayout at)
    {
        int dim = problem.KeyDim;
        int rows = item.HeadCount * at.RowsPerHead;
        IntegerRows of = at.Integers;
        new Span<int>(of.Sums, rows * problem.ValueDim).Clear();
        // A pair of tokens may go one beyond the tile's last: its weight is 0 from here on, as only a sequence's first tile begins in the middle of a pair.
        new Span<short>(of.Weights, rows * DecodeTiles.ScoreStride).Clear();
        for (int row = 0; row < rows; row++)
        {
            float* query = at.Query + ((nint)row * at.QueryStride);
            short* words = of.Queries + ((nint)row * dim);
            int largest = LargestBits(query, 0, dim);

            // A row with such a query is computed again, in double precision.
            int exponent = largest >= Infinity ? 0 : Math.Max((largest >> 23) - 127 - 14, -126);
            Vector512<float> factor = Vector512.Create(largest >= Infinity ? 0 : PowerOfTwo(-exponent));
            for (int d = 0; d < dim; d += Width) Round(Vector512.Load(query + d) * factor, words + d);
            new Span<float>(of.QuerySteps + ((nint)row * KeysOfProduct), KeysOfProduct).Fill(PowerOfTwo(exponent));
        }
    }

    public static void Scores(in DecodePass pass) =>
        HalfProducts.Scores(pass, sizeof(sbyte), pass.At.Integers.Queries, pass.At.Integers.QuerySteps);

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void Outputs(in DecodePass pass)
    {
        ref readonly DecodeLayout at = ref pass.At;
        IntegerRows of = at.Integers;
        int first = pass.Start / (2 * Width) * (2 * Width);
        int end = (pass.Stop + (2 * Width) - 1) / (2 * Width) * (2 * Width);
        for (int h = 0; h < pass.Item.HeadCount; h++)
        {
            for (int r = 0; r < pass.Item.RowCount; r++)
            {
                nint row = ((nint)h * at.RowsPerHead) + r;
                float* weights = at.Scores + (row * DecodeTiles.ScoreStride);
                of.WeightSteps[row] = RoundWeights(weights, first, end, of.Weights + (row * DecodeTiles.ScoreStride));
                if (float.IsNaN(of.WeightSteps[row])) AddByFloats(pass, h, weights, at.Output + (row * at.OutputStride));
            }
        }

        HalfProducts.Outputs(pass, sizeof(sbyte), of.Weights, sizeof(short), of.Sums);
        for (int h = 0; h < pass.Item.HeadCount; h++)
        {
            for (int r = 0; r < pass.Item.RowCount; r++)
            {
                nint row = ((nint)h * at.RowsPerHead) + r;
                if (of.WeightSteps[row] > 0) AddSums(of.Sums + (row * pass.Problem.ValueDim), of.WeightSteps[row], at.Output + (row * at.OutputStride), pass.Problem.ValueDim);
            }
        }
    }

    /// <summary>Rounds the weights of keys [first, end) of a row. Returns what one of them stands for; 0 where all are 0, and NaN where they are no numbers for this and have been left out.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static float RoundWeights(float* weights, int first, int end, short* words)
    {
        float largest = BitConverter.Int32BitsToSingle(LargestBits(weights, first, end));
        if (largest is >= SmallestWeight and < float.PositiveInfinity)
        {
            Vector512<float> factor = Vector512.Create(LargestWord / largest);
            for (int j = first; j < end; j += Width) Round(Vector512.Load(weights + j) * factor, words + j);
            return largest / LargestWord;
        }

        new Span<short>(words + first, end - first).Clear();
        return largest == 0 ? 0 : float.NaN;
    }

    private static void AddByFloats(in DecodePass pass, int head, float* weights, float* output)
    {
        nint offset = (nint)((pass.Item.Head + head) * pass.Problem.ValueHeadStride);
        for (int j = pass.Start; j < pass.Stop; j += pass.ValueStep)
        {
            WeightedSums<Avx512Simd, Vector512<float>, Int8Element>.OneRow(
                weights + j, pass.Rows.Values + j, offset, Math.Min(pass.ValueStep, pass.Stop - j), output, pass.Problem.ValueDim);
        }
    }

    /// <summary>Adds a tile's sums to a row of the output, and clears them.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void AddSums(int* sums, float step, float* output, int dim)
    {
        Vector512<float> factor = Vector512.Create(step);
        Vector512<int> even = Vector512.Create(DecodeSums.IntegerOrder), odd = Vector512.Create(DecodeSums.IntegerOrder[Width..]);
        for (int d = 0; d < dim; d += 2 * Width)
        {
            Vector512<int> low = Vector512.Load(sums + d), high = Vector512.Load(sums + d + Width);
            Add(Avx512F.PermuteVar16x32x2(low, even, high), output + d);
            Add(Avx512F.PermuteVar16x32x2(low, odd, high), output + d + Width);
            Vector512<int>.Zero.Store(sums + d);
            Vector512<int>.Zero.Store(sums + d + Width);
        }

        void Add(Vector512<int> sum, float* at) => Avx512F.FusedMultiplyAdd(Avx512F.ConvertToVector512Single(sum), factor, Vector512.Load(at)).Store(at);
    }

    /// <summary>To nearest even.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Round(Vector512<float> values, short* words) => Avx512F.ConvertToVector256Int16WithSaturation(Avx512F.ConvertToVector512Int32(values)).Store(words);

    /// <summary>The largest magnitude of elements [first, end), as bits: of NaN and infinity those at or beyond infinity's.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static int LargestBits(float* values, int first, int end)
    {
        Vector512<int> magnitude = Vector512.Create(Magnitude);
        Vector512<int> largest = Vector512<int>.Zero;
        for (int i = first; i < end; i += Width) largest = Vector512.Max(largest, Vector512.Load((int*)values + i) & magnitude);
        Vector256<int> half = Vector256.Max(largest.GetLower(), largest.GetUpper());
        Vector128<int> quarter = Vector128.Max(half.GetLower(), half.GetUpper());
        quarter = Vector128.Max(quarter, Vector128.Shuffle(quarter, Vector128.Create(2, 3, 0, 1)));
        return Math.Max(quarter[0], quarter[1]);
    }

    private static float PowerOfTwo(int exponent) => BitConverter.Int32BitsToSingle((exponent + 127) << 23);
}
