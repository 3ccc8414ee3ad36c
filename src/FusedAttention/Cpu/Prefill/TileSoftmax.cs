using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;
using FusedAttention.Cpu.MachineCode.Kernels;
using FusedAttention.Cpu.Numerics;

namespace FusedAttention.Cpu.Prefill;

/// <summary>
/// The online softmax of a strip whose scores are transposed: a vector is one key of 16 rows, so that a row is a lane and nothing is summed over lanes. Weights are 2^((s - m) * c) by a polynomial of degree 3, good for
/// bfloat16, to which they are rounded; they and their sums are rounded alike.
/// </summary>
/// <remarks>
/// A stage is <see cref="Keys"/> keys from a multiple of it on. A row's m is brought up to its largest score so far only where a stage has one that would weigh more than 2^8; so nearly always at its first stage and never
/// again. What a lane does follows from its own scores, so that its bits do.
/// </remarks>
internal static unsafe class TileSoftmax
{
    /// <summary>Keys of a stage.</summary>
    public const int Keys = TileStages.Keys;

    private const int Rows = TileKernels.Rows;

    /// <summary>log2 of the largest weight.</summary>
    public const float LargestExponent = 8;

    /// <summary>In place of m * c for rows that have seen no key: finite, so that what they do not see weighs 0, and so low that any score exceeds it.</summary>
    private const float Unseen = -8.5e37f;

    /// <summary>Sets scores of keys that rows do not see by position to negative infinity.</summary>
    /// <param name="scores">The scores of the first key.</param>
    /// <param name="first">The first key, relative to the tile.</param>
    /// <param name="end">One past the last.</param>
    /// <param name="starts">For each row the first key that it sees, relative to the tile.</param>
    /// <param name="stops">For each row one past the last.</param>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void Hide(float* scores, int first, int end, int* starts, int* stops)
    {
        Vector512<float> hidden = Vector512.Create(float.NegativeInfinity);
        for (int half = 0; half < Rows; half += 16)
        {
            Vector512<int> start = Vector512.Load(starts + half), stop = Vector512.Load(stops + half);
            for (int j = first; j < end; j++)
            {
                Vector512<int> key = Vector512.Create(j);
                float* at = scores + ((j - first) * Rows) + half;
                Vector512<int> seen = Vector512.LessThanOrEqual(start, key) & Vector512.LessThan(key, stop);
                Vector512.ConditionalSelect(seen.AsSingle(), Vector512.Load(at), hidden).Store(at);
            }
        }
    }

    /// <summary>Brings a stage's rows up to date: maxima, sums, and the output where a maximum moves; and makes weights of the scores.</summary>
    /// <param name="scores">The scores: [keys][32 rows].</param>
    /// <param name="keys">How many keys; even.</param>
    /// <param name="weights">Receives the weights: [pairs of keys][32 rows].</param>
    /// <param name="max">m of each row; negative infinity before the first key that it sees.</param>
    /// <param name="sum">The sum of each row's rounded weights.</param>
    /// <param name="exact">The sum of each row's weights as they are; null if nobody wants it.</param>
    /// <param name="output">The sums of values: [dims][32 rows].</param>
    /// <param name="dims">How many dims.</param>
    /// <param name="factor">What makes a score an exponent of 2; more than 0.</param>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void Update(float* scores, int keys, uint* weights, float* max, float* sum, float* exact, float* output, int dims, float factor)
    {
        Vector512<float> c = Vector512.Create(factor);
        for (int half = 0; half < Rows; half += 16)
        {
            float* s = scores + half;
            Vector512<float> offset = Offset(Vector512.Load(max + half), c);
            Vector512<float> stageMax = Maximum(s, keys);
            Vector512<float> exceeds = Vector512.GreaterThan(Avx512F.FusedMultiplyAdd(stageMax, c, -offset), Vector512.Create(LargestExponent));
            if (exceeds != Vector512<float>.Zero)
            {
                Vector512<float> newMax = Vector512.ConditionalSelect(exceeds, stageMax, Vector512.Load(max + half));
                Vector512<float> newOffset = Offset(newMax, c);
                Vector512<float> rescale = Vector512.ConditionalSelect(exceeds, Elementary<Avx512Simd, Vector512<float>>.Exp2(offset - newOffset), Vector512<float>.One);
                newMax.Store(max + half);
                offset = newOffset;
                (Vector512.Load(sum + half) * rescale).Store(sum + half);
                if (exact != null) (Vector512.Load(exact + half) * rescale).Store(exact + half);
                Multiply(output + half, dims, rescale);
            }

            (Vector512.Load(sum + half) + Weigh(s, keys, weights + half, offset, c)).Store(sum + half);
            if (exact != null) (Vector512.Load(exact + half) + ExactSum(s, keys, offset, c)).Store(exact + half);
        }
    }

    /// <summary>What is added to a score times the factor: minus m * c.</summary>
    public static void Negate(float* max, float factor, float* offsets)
    {
        for (int half = 0; half < Rows; half += 16) (-Offset(Vector512.Load(max + half), Vector512.Create(factor))).Store(offsets + half);
    }

    /// <summary>Whether all rows have seen a key.</summary>
    public static bool HaveSeen(float* max) => !Vector512.EqualsAny(Vector512.Min(Vector512.Load(max), Vector512.Load(max + 16)), Vector512.Create(float.NegativeInfinity));

    /// <summary>Adds the sums of a stage to those of its rows.</summary>
    public static void Add(float* stage, float* sum)
    {
        for (int half = 0; half < Rows; half += 16) (Vector512.Load(sum + half) + Vector512.Load(stage + half)).Store(sum + half);
    }

    /// <summary>Multiplies each row of a transposed output.</summary>
    public static void Multiply(float* output, int dims, float* factors)
    {
        for (int half = 0; half < Rows; half += 16) Multiply(output + half, dims, Vector512.Load(factors + half));
    }

    /// <summary>To bfloat16, the nearest, in the upper half of the bits. Weights are not negative: half of what is cut off is added first. NaN, of rows that are computed again, may become anything.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector512<uint> Rounded(Vector512<float> weights) => (weights.AsUInt32() + Vector512.Create(0x8000u)) & Vector512.Create(0xFFFF0000u);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector512<float> Offset(Vector512<float> max, Vector512<float> c) => Avx512F.Max(max * c, Vector512.Create(Unseen));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector512<float> Maximum(float* s, int keys)
    {
        Vector512<float> max0 = Vector512.Create(float.NegativeInfinity), max1 = max0;
        for (int j = 0; j < keys; j += 2)
        {
            max0 = Avx512F.Max(max0, Vector512.Load(s + (j * Rows)));
            max1 = Avx512F.Max(max1, Vector512.Load(s + ((j + 1) * Rows)));
        }

        return Avx512F.Max(max0, max1);
    }

    /// <summary>Scores to rounded weights; returns their sums, of even keys and of odd ones first.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector512<float> Weigh(float* s, int keys, uint* weights, Vector512<float> offset, Vector512<float> c)
    {
        Vector512<float> even = Vector512<float>.Zero, odd = even, negative = -offset;
        for (int j = 0; j < keys; j += 2)
        {
            Vector512<uint> a = Rounded(Weight(Avx512F.FusedMultiplyAdd(Vector512.Load(s + (j * Rows)), c, negative)));
            Vector512<uint> b = Rounded(Weight(Avx512F.FusedMultiplyAdd(Vector512.Load(s + ((j + 1) * Rows)), c, negative)));
            even += a.AsSingle();
            odd += b.AsSingle();
            ((a >>> 16) | b).Store(weights + (j / 2 * Rows));
        }

        return even + odd;
    }

    /// <summary>2^t to 8.6e-5 of it, 0 for negative infinity: 2^f of the fraction f from 0 to 1, minimax under the constraint of 1 at 0, times 2^(t - f).</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector512<float> Weight(Vector512<float> t)
    {
        Vector512<float> f = Avx512DQ.Reduce(t, 1);
        Vector512<float> p = Avx512F.FusedMultiplyAdd(f, Vector512.Create(TileExponential.C3), Vector512.Create(TileExponential.C2));
        p = Avx512F.FusedMultiplyAdd(f, p, Vector512.Create(TileExponential.C1));
        p = Avx512F.FusedMultiplyAdd(f, p, Vector512<float>.One);
        return Avx512F.Scale(p, t);
    }

    /// <summary>The sum of the weights as they are, for log-sum-exps.</summary>
    private static Vector512<float> ExactSum(float* s, int keys, Vector512<float> offset, Vector512<float> c)
    {
        Vector512<float> even = Vector512<float>.Zero, odd = even;
        for (int j = 0; j < keys; j += 2)
        {
            even += Elementary<Avx512Simd, Vector512<float>>.Exp2(Avx512F.FusedMultiplyAdd(Vector512.Load(s + (j * Rows)), c, -offset));
            odd += Elementary<Avx512Simd, Vector512<float>>.Exp2(Avx512F.FusedMultiplyAdd(Vector512.Load(s + ((j + 1) * Rows)), c, -offset));
        }

        return even + odd;
    }

    private static void Multiply(float* output, int dims, Vector512<float> factors)
    {
        for (int d = 0; d < dims; d++) (Vector512.Load(output + (d * Rows)) * factors).Store(output + (d * Rows));
    }
}
