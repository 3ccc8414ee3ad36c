using System.Runtime.CompilerServices;
using FusedAttention.Cpu.Numerics;

namespace FusedAttention.Cpu.Decode;

/// <summary>
/// Dot products of query rows and key rows straight from the cache, eight at a time. Each is one chain of vector multiply-adds over the dimension and one fixed sum over
/// lanes, so the same query and key give the same bits in both shapes.
/// </summary>
internal static unsafe class DotProducts<TS, TV, TE>
    where TS : struct, ISimd<TV>
    where TV : unmanaged
    where TE : struct, IElement
{
    /// <summary>One query row and eight keys. The query is padded with zeros to whole vectors.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    [SkipLocalsInit]
    public static void OneRow(float* query, nint* keys, nint offset, int dim, float* sums)
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
        int d = 0;
        for (; d + TS.Width <= dim; d += TS.Width)
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

        if (d < dim)
        {
            TV q = TS.Load(query + d);
            s0 = TS.MultiplyAdd(q, LoadTail(k0, d, dim), s0);
            s1 = TS.MultiplyAdd(q, LoadTail(k1, d, dim), s1);
            s2 = TS.MultiplyAdd(q, LoadTail(k2, d, dim), s2);
            s3 = TS.MultiplyAdd(q, LoadTail(k3, d, dim), s3);
            s4 = TS.MultiplyAdd(q, LoadTail(k4, d, dim), s4);
            s5 = TS.MultiplyAdd(q, LoadTail(k5, d, dim), s5);
            s6 = TS.MultiplyAdd(q, LoadTail(k6, d, dim), s6);
            s7 = TS.MultiplyAdd(q, LoadTail(k7, d, dim), s7);
        }

        TS.StoreSums(sums, s0, s1, s2, s3, s4, s5, s6, s7);
    }

    /// <summary>Four query rows, <paramref name="stride"/> floats apart, and two keys: sums [row][key].</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    [SkipLocalsInit]
    public static void FourRows(float* query, int stride, byte* k0, byte* k1, int dim, float* sums)
    {
        float* q0 = query;
        float* q1 = query + stride;
        float* q2 = q1 + stride;
        float* q3 = q2 + stride;
        TV s00 = TS.Zero, s01 = TS.Zero, s10 = TS.Zero, s11 = TS.Zero, s20 = TS.Zero, s21 = TS.Zero, s30 = TS.Zero, s31 = TS.Zero;
        int d = 0;
        for (; d < dim; d += TS.Width)
        {
            bool whole = d + TS.Width <= dim;
            TV key0 = whole ? TE.Load<TS, TV>(k0, d) : LoadTail(k0, d, dim);
            TV key1 = whole ? TE.Load<TS, TV>(k1, d) : LoadTail(k1, d, dim);
            TV q = TS.Load(q0 + d);
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

        TS.StoreSums(sums, s00, s01, s10, s11, s20, s21, s30, s31);
    }

    /// <summary>The last, incomplete vector of a row, padded with zeros: nothing beyond the row is read.</summary>
    [MethodImpl(MethodImplOptions.NoInlining)]
    private static TV LoadTail(byte* source, int d, int dim)
    {
        TV padded = TS.Zero;
        float* lanes = (float*)&padded;
        for (int i = 0; d + i < dim; i++) lanes[i] = TE.LoadOne(source, d + i);
        return padded;
    }
}
