using System.Runtime.CompilerServices;
using FusedAttention.Cpu.Numerics;

namespace FusedAttention.Cpu.Decode;

/// <summary>
/// Dot products of query rows and key rows straight from the cache, eight at a time. Each is one chain of vector multiply-adds over the dimension and one fixed sum over
/// lanes, times a power of two, so the same query and key give the same bits in every shape.
/// </summary>
/// <remarks>
/// Dimensions are whole vectors here; <see cref="Tail"/> adds the rest. No call may stand in these methods: the accumulators would live in memory across it.
/// </remarks>
internal static unsafe class DotProducts<TS, TV, TE>
    where TS : struct, ISimd<TV>
    where TV : unmanaged
    where TE : struct, IElement
{
    /// <summary>The most heads that <see cref="Heads"/> takes.</summary>
    public const int MaxHeads = 8;

    /// <summary>One query row and eight keys: 8 independent chains, as many as 2 ports x 4 cycles of latency want.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    [SkipLocalsInit]
    public static void OneRow(float* query, nint* keys, nint offset, int dim, float* sums, float factor)
    {
        byte* k0 = (byte*)(keys[0] + offset);
        byte* k1 = (byte*)(keys[1] + offset);
        byte* k2 = (byte*)(keys[2] + offset);
        byte* k3 = (byte*)(keys[3] + offset);
        byte* k4 = (byte*)(keys[4] + offset);
        byte* k5 = (byte*)(keys[5] + offset);
        byte* k6 = (byte*)(keys[6] + offset);
        byte* k7 = (byte*)(keys[7] + offset);
        TV s0 = TS.Zero, s1 = TS.Zero, s2 = TS.Zero, s3 = TS.Zero, s4 = TS.Zero, s5 = TS.Zero, s6 = TS.Zero, s7 = TS.Zero;
        for (nint d = 0; d < dim; d += TS.Width)
        {
            TV q = TS.Load(query + d);
            s0 = TS.MultiplyAdd(q, TE.Load<TS, TV>(k0, d), s0);
            s1 = TS.MultiplyAdd(q, TE.Load<TS, TV>(k1, d), s1);
            s2 = TS.MultiplyAdd(q, TE.Load<TS, TV>(k2, d), s2);
            s3 = TS.MultiplyAdd(q, TE.Load<TS, TV>(k3, d), s3);
            s4 = TS.MultiplyAdd(q, TE.Load<TS, TV>(k4, d), s4);
            s5 = TS.MultiplyAdd(q, TE.Load<TS, TV>(k5, d), s5);
            s6 = TS.MultiplyAdd(q, TE.Load<TS, TV>(k6, d), s6);
            s7 = TS.MultiplyAdd(q, TE.Load<TS, TV>(k7, d), s7);
        }

        TS.StoreSums(sums, factor, s0, s1, s2, s3, s4, s5, s6, s7);
    }

    /// <summary>
    /// Up to eight heads of one token, <paramref name="headStride"/> bytes apart, each with a query row of its own, <paramref name="queryStride"/> floats apart: memory is read in its
    /// order. One chain a head, as in <see cref="OneRow"/>, for the same bits. Elements of 16 or 8 bits, whose widening fills the processor's queues, want four heads at a time (AVX2: 21.1 GB/s
    /// against 19.5); floats want strict order (AVX-512: 29.3 GB/s against 26.4).
    /// </summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    [SkipLocalsInit]
    public static void Heads(float* query, nint queryStride, byte* key, nint headStride, int heads, int dim, float* sums, float factor)
    {
        float* chains = stackalloc float[MaxHeads * TS.Width];
        int h = 0;
        for (; typeof(TE) != typeof(Float32Element) && h + 4 <= heads; h += 4)
        {
            float* q1 = query + queryStride;
            float* q2 = q1 + queryStride;
            float* q3 = q2 + queryStride;
            byte* k1 = key + headStride;
            byte* k2 = k1 + headStride;
            byte* k3 = k2 + headStride;
            TV s0 = TS.Zero, s1 = TS.Zero, s2 = TS.Zero, s3 = TS.Zero;
            for (nint d = 0; d < dim; d += TS.Width)
            {
                s0 = TS.MultiplyAdd(TS.Load(query + d), TE.Load<TS, TV>(key, d), s0);
                s1 = TS.MultiplyAdd(TS.Load(q1 + d), TE.Load<TS, TV>(k1, d), s1);
                s2 = TS.MultiplyAdd(TS.Load(q2 + d), TE.Load<TS, TV>(k2, d), s2);
                s3 = TS.MultiplyAdd(TS.Load(q3 + d), TE.Load<TS, TV>(k3, d), s3);
            }

            float* at = chains + (h * TS.Width);
            TS.Store(at, s0);
            TS.Store(at + TS.Width, s1);
            TS.Store(at + (2 * TS.Width), s2);
            TS.Store(at + (3 * TS.Width), s3);
            query = q3 + queryStride;
            key = k3 + headStride;
        }

        for (; h < heads; h++)
        {
            TV s = TS.Zero;
            for (nint d = 0; d < dim; d += TS.Width) s = TS.MultiplyAdd(TS.Load(query + d), TE.Load<TS, TV>(key, d), s);
            TS.Store(chains + (h * TS.Width), s);
            query += queryStride;
            key += headStride;
        }

        for (; h < MaxHeads; h++) TS.Store(chains + (h * TS.Width), TS.Zero);
        TS.StoreSums(
            sums, factor, TS.Load(chains), TS.Load(chains + TS.Width), TS.Load(chains + (2 * TS.Width)), TS.Load(chains + (3 * TS.Width)),
            TS.Load(chains + (4 * TS.Width)), TS.Load(chains + (5 * TS.Width)), TS.Load(chains + (6 * TS.Width)), TS.Load(chains + (7 * TS.Width)));
    }

    /// <summary>Four query rows, <paramref name="stride"/> floats apart, and two keys, so that a key is loaded and widened once for four rows: four rows of two sums, <paramref name="sumStride"/> floats apart.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    [SkipLocalsInit]
    public static void FourRows(float* query, nint stride, byte* k0, byte* k1, int dim, float* sums, nint sumStride, float factor)
    {
        float* q1 = query + stride;
        float* q2 = q1 + stride;
        float* q3 = q2 + stride;
        TV s00 = TS.Zero, s01 = TS.Zero, s10 = TS.Zero, s11 = TS.Zero, s20 = TS.Zero, s21 = TS.Zero, s30 = TS.Zero, s31 = TS.Zero;
        for (nint d = 0; d < dim; d += TS.Width)
        {
            TV key0 = TE.Load<TS, TV>(k0, d);
            TV key1 = TE.Load<TS, TV>(k1, d);
            TV q = TS.Load(query + d);
            s00 = TS.MultiplyAdd(q, key0, s00);
            s01 = TS.MultiplyAdd(q, key1, s01);
            q = TS.Load(q1 + d);
            s10 = TS.MultiplyAdd(q, key0, s10);
            s11 = TS.MultiplyAdd(q, key1, s11);
            q = TS.Load(q2 + d);
            s20 = TS.MultiplyAdd(q, key0, s20);
            s21 = TS.MultiplyAdd(q, key1, s21);
            q = TS.Load(q3 + d);
            s30 = TS.MultiplyAdd(q, key0, s30);
            s31 = TS.MultiplyAdd(q, key1, s31);
        }

        TS.StoreSumPairs(sums, sumStride, factor, s00, s01, s10, s11, s20, s21, s30, s31);
    }

    /// <summary>Four query rows and four keys at <paramref name="keys"/>, for machines with 32 registers: 16 sums, 4 keys and a query. Half the loads of queries and half the calls; the same bits.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    [SkipLocalsInit]
    public static void FourRowsFourKeys(float* query, nint stride, nint* keys, nint offset, int dim, float* sums, nint sumStride, float factor)
    {
        byte* k0 = (byte*)(keys[0] + offset);
        byte* k1 = (byte*)(keys[1] + offset);
        byte* k2 = (byte*)(keys[2] + offset);
        byte* k3 = (byte*)(keys[3] + offset);
        float* q1 = query + stride;
        float* q2 = q1 + stride;
        float* q3 = q2 + stride;
        TV s00 = TS.Zero, s01 = TS.Zero, s02 = TS.Zero, s03 = TS.Zero, s10 = TS.Zero, s11 = TS.Zero, s12 = TS.Zero, s13 = TS.Zero;
        TV s20 = TS.Zero, s21 = TS.Zero, s22 = TS.Zero, s23 = TS.Zero, s30 = TS.Zero, s31 = TS.Zero, s32 = TS.Zero, s33 = TS.Zero;
        for (nint d = 0; d < dim; d += TS.Width)
        {
            TV key0 = TE.Load<TS, TV>(k0, d);
            TV key1 = TE.Load<TS, TV>(k1, d);
            TV key2 = TE.Load<TS, TV>(k2, d);
            TV key3 = TE.Load<TS, TV>(k3, d);
            TV q = TS.Load(query + d);
            s00 = TS.MultiplyAdd(q, key0, s00);
            s01 = TS.MultiplyAdd(q, key1, s01);
            s02 = TS.MultiplyAdd(q, key2, s02);
            s03 = TS.MultiplyAdd(q, key3, s03);
            q = TS.Load(q1 + d);
            s10 = TS.MultiplyAdd(q, key0, s10);
            s11 = TS.MultiplyAdd(q, key1, s11);
            s12 = TS.MultiplyAdd(q, key2, s12);
            s13 = TS.MultiplyAdd(q, key3, s13);
            q = TS.Load(q2 + d);
            s20 = TS.MultiplyAdd(q, key0, s20);
            s21 = TS.MultiplyAdd(q, key1, s21);
            s22 = TS.MultiplyAdd(q, key2, s22);
            s23 = TS.MultiplyAdd(q, key3, s23);
            q = TS.Load(q3 + d);
            s30 = TS.MultiplyAdd(q, key0, s30);
            s31 = TS.MultiplyAdd(q, key1, s31);
            s32 = TS.MultiplyAdd(q, key2, s32);
            s33 = TS.MultiplyAdd(q, key3, s33);
        }

        TS.StoreSumPairs(sums, sumStride, factor, s00, s01, s10, s11, s20, s21, s30, s31);
        TS.StoreSumPairs(sums + 2, sumStride, factor, s02, s03, s12, s13, s22, s23, s32, s33);
    }

    /// <summary>The elements beyond the last whole vector, one by one: nothing beyond a row is read.</summary>
    public static float Tail(float* query, byte* key, int start, int dim)
    {
        float sum = 0;
        for (int d = start; d < dim; d++) sum = ScalarSimd.MultiplyAdd(query[d], TE.LoadOne(key, d), sum);
        return sum;
    }
}
