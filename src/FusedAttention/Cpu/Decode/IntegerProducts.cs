using System.Runtime.CompilerServices;
using FusedAttention.Cpu.MachineCode.Kernels;
using FusedAttention.Cpu.Numerics;
using FusedAttention.Cpu.Planning;
using FusedAttention.Problems;
using FusedAttention.Tensors;

namespace FusedAttention.Cpu.Decode;

/// <summary>Whether 8-bit integers go by <see cref="IntegerProducts{TS, TV, TLanes}"/>.</summary>
internal static class IntegerProducts
{
    private const int MostKeyDims = 4096;

    /// <summary>Whether a sequence's rows are served.</summary>
    public static bool Takes(AttentionProblem problem, int rowsPerHead, int vectorWidth) => Takes(problem, vectorWidth) && rowsPerHead % DecodeTiles.Rows == 0;

    /// <summary>
    /// Whether a call is served: its types, and dimensions of whole vectors, which machine code is for. Not where the log-sum-exp is asked for, which has 24 bits whatever the outputs have, and would show what is lost of a query:
    /// up to 9e-5 in the reference set.
    /// </summary>
    public static bool Takes(AttentionProblem problem, int vectorWidth)
    {
        if (vectorWidth != IntegerLanes256.Width && vectorWidth != IntegerLanes512.Width) return false;
        if (problem.KeyValueType != AttentionElementType.Int8 || problem.HasLogSumExp || problem.QueryType.Size() != sizeof(ushort)) return false;
        int bits = 32 * vectorWidth;
        return problem.KeyDim % (2 * vectorWidth) == 0 && problem.KeyDim <= MostKeyDims && problem.ValueDim % DecodeSums.IntegerColumns(bits) == 0 && problem.ValueDim <= DecodeSums.MostIntegerColumns(bits);
    }
}

/// <summary>
/// The products of 8-bit integers by machine code, where a head has four rows or a multiple and queries are of 16 bits: queries and weights become 16-bit integers, and sums are exact. Floats would take a multiply-add for 16
/// elements and two instructions to widen them, this one for 32 and one.
/// </summary>
/// <remarks>
/// <para>A query is rounded to multiples of a power of two, 2^-14 of that of its largest element: of binary16 only what is below a 16th of the largest is rounded at all, of bfloat16 below a 128th. Weights, times the scales of
/// their values, are rounded to multiples of 1/32767 of the largest of a row and tile: half of that is 2^-16 of it, against the 2^-12 that a row of binary16 loses at its end.</para>
/// <para>Both follow from the row and the tile alone, and the sums of integers from nothing else; so rows keep their bits whatever is beside them.</para>
/// </remarks>
internal readonly unsafe struct IntegerProducts<TS, TV, TLanes> : IDecodeProducts
    where TS : struct, ISimd<TV>
    where TV : unmanaged
    where TLanes : struct, IIntegerLanes
{
    private const int Infinity = 0x7F800000;
    private const float LargestWord = 32767;

    // Below it the factor that makes its largest weight 32767 would overflow.
    private const float SmallestWeight = 1e-30f;

    // Factors of a row of four in a vector.
    private static int FactorsOfRow => TLanes.Width / DecodeTiles.Rows;

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
            int largest = TLanes.LargestBits(query, 0, dim);

            // A row with such a query is computed again, in double precision.
            int exponent = largest >= Infinity ? 0 : Math.Max((largest >> 23) - 127 - 14, -126);
            TLanes.Round(query, largest >= Infinity ? 0 : PowerOfTwo(-exponent), 0, dim, words);
            new Span<float>(of.QuerySteps + ((nint)row * FactorsOfRow), FactorsOfRow).Fill(PowerOfTwo(exponent));
        }
    }

    public static void Scores(in DecodePass pass) =>
        HalfProducts.Scores(pass, sizeof(sbyte), pass.At.Integers.Queries, pass.At.Integers.QuerySteps);

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void Outputs(in DecodePass pass)
    {
        ref readonly DecodeLayout at = ref pass.At;
        IntegerRows of = at.Integers;
        int whole = 2 * TLanes.Width;
        int first = pass.Start / whole * whole;
        int end = (pass.Stop + whole - 1) / whole * whole;
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

        // Sums come from memory and go back at each step, so steps are as long as requests reach: of 16 tokens rather than 8, 3 to 5 % less time; of 32, whose later half nobody has asked for yet, 1.4 to 1.5 times as much.
        HalfProducts.Outputs(pass, sizeof(sbyte), of.Weights, sizeof(short), of.Sums, pass.Ahead);
        for (int h = 0; h < pass.Item.HeadCount; h++)
        {
            for (int r = 0; r < pass.Item.RowCount; r++)
            {
                nint row = ((nint)h * at.RowsPerHead) + r;
                if (of.WeightSteps[row] > 0) TLanes.AddSums(of.Sums + (row * pass.Problem.ValueDim), of.WeightSteps[row], at.Output + (row * at.OutputStride), pass.Problem.ValueDim);
            }
        }
    }

    /// <summary>Rounds the weights of keys [first, end) of a row. Returns what one of them stands for; 0 where all are 0, and NaN where they are no numbers for this and have been left out.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static float RoundWeights(float* weights, int first, int end, short* words)
    {
        float largest = BitConverter.Int32BitsToSingle(TLanes.LargestBits(weights, first, end));
        if (largest is >= SmallestWeight and < float.PositiveInfinity)
        {
            TLanes.Round(weights, LargestWord / largest, first, end, words);
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
            WeightedSums<TS, TV, Int8Element>.OneRow(
                weights + j, pass.Rows.Values + j, offset, Math.Min(pass.ValueStep, pass.Stop - j), output, pass.Problem.ValueDim);
        }
    }

    private static float PowerOfTwo(int exponent) => BitConverter.Int32BitsToSingle((exponent + 127) << 23);
}
