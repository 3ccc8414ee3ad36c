using System.Runtime.CompilerServices;
using FusedAttention.Cpu.Numerics;
using FusedAttention.Cpu.Planning;

namespace FusedAttention.Cpu.Decode;

/// <summary>O += P V with values straight from the cache. Each output element is one chain of multiply-adds in the order of the keys given, then added to O, in every shape.</summary>
internal static unsafe class WeightedSums<TS, TV, TE>
    where TS : struct, ISimd<TV>
    where TV : unmanaged
    where TE : struct, IElement
{
    /// <summary>One row: four vectors of the output at a time, so that a key's weight is broadcast once for them.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    [SkipLocalsInit]
    public static void OneRow(float* weights, nint* values, nint offset, int keys, float* output, int dim)
    {
        int d = 0;
        for (; d + (4 * TS.Width) <= dim; d += 4 * TS.Width)
        {
            TV o0 = TS.Zero, o1 = TS.Zero, o2 = TS.Zero, o3 = TS.Zero;
            for (int j = 0; j < keys; j++)
            {
                byte* v = (byte*)(values[j] + offset);
                TV p = TS.Create(weights[j]);
                o0 = TS.MultiplyAdd(p, TE.Load<TS, TV>(v, d), o0);
                o1 = TS.MultiplyAdd(p, TE.Load<TS, TV>(v, d + TS.Width), o1);
                o2 = TS.MultiplyAdd(p, TE.Load<TS, TV>(v, d + (2 * TS.Width)), o2);
                o3 = TS.MultiplyAdd(p, TE.Load<TS, TV>(v, d + (3 * TS.Width)), o3);
            }

            Add(output + d, o0);
            Add(output + d + TS.Width, o1);
            Add(output + d + (2 * TS.Width), o2);
            Add(output + d + (3 * TS.Width), o3);
        }

        for (; d + TS.Width <= dim; d += TS.Width)
        {
            TV o = TS.Zero;
            for (int j = 0; j < keys; j++) o = TS.MultiplyAdd(TS.Create(weights[j]), TE.Load<TS, TV>((byte*)(values[j] + offset), d), o);
            Add(output + d, o);
        }

        Tail(weights, values, offset, keys, output, d, dim);
    }

    /// <summary>
    /// Four rows of weights, <see cref="DecodeTiles.ScoreStride"/> floats apart, and of outputs, <paramref name="outputStride"/> floats apart: two vectors of the output
    /// at a time, so that a value is loaded and widened once for the four rows; four where there are 32 registers, for half the broadcasts of weights (3 to 7 % of a call).
    /// </summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    [SkipLocalsInit]
    public static void FourRows(float* weights, nint* values, nint offset, int keys, float* output, int outputStride, int dim)
    {
        float* out1 = output + outputStride;
        float* out2 = out1 + outputStride;
        float* out3 = out2 + outputStride;
        int d = 0;
        for (; TS.HasManyRegisters && d + (4 * TS.Width) <= dim; d += 4 * TS.Width)
        {
            TV o0a = TS.Zero, o0b = TS.Zero, o0c = TS.Zero, o0d = TS.Zero, o1a = TS.Zero, o1b = TS.Zero, o1c = TS.Zero, o1d = TS.Zero;
            TV o2a = TS.Zero, o2b = TS.Zero, o2c = TS.Zero, o2d = TS.Zero, o3a = TS.Zero, o3b = TS.Zero, o3c = TS.Zero, o3d = TS.Zero;
            for (int j = 0; j < keys; j++)
            {
                byte* v = (byte*)(values[j] + offset);
                TV va = TE.Load<TS, TV>(v, d);
                TV vb = TE.Load<TS, TV>(v, d + TS.Width);
                TV vc = TE.Load<TS, TV>(v, d + (2 * TS.Width));
                TV vd = TE.Load<TS, TV>(v, d + (3 * TS.Width));
                TV p = TS.Create(weights[j]);
                o0a = TS.MultiplyAdd(p, va, o0a);
                o0b = TS.MultiplyAdd(p, vb, o0b);
                o0c = TS.MultiplyAdd(p, vc, o0c);
                o0d = TS.MultiplyAdd(p, vd, o0d);
                p = TS.Create(weights[j + DecodeTiles.ScoreStride]);
                o1a = TS.MultiplyAdd(p, va, o1a);
                o1b = TS.MultiplyAdd(p, vb, o1b);
                o1c = TS.MultiplyAdd(p, vc, o1c);
                o1d = TS.MultiplyAdd(p, vd, o1d);
                p = TS.Create(weights[j + (2 * DecodeTiles.ScoreStride)]);
                o2a = TS.MultiplyAdd(p, va, o2a);
                o2b = TS.MultiplyAdd(p, vb, o2b);
                o2c = TS.MultiplyAdd(p, vc, o2c);
                o2d = TS.MultiplyAdd(p, vd, o2d);
                p = TS.Create(weights[j + (3 * DecodeTiles.ScoreStride)]);
                o3a = TS.MultiplyAdd(p, va, o3a);
                o3b = TS.MultiplyAdd(p, vb, o3b);
                o3c = TS.MultiplyAdd(p, vc, o3c);
                o3d = TS.MultiplyAdd(p, vd, o3d);
            }

            Add(output + d, o0a);
            Add(output + d + TS.Width, o0b);
            Add(output + d + (2 * TS.Width), o0c);
            Add(output + d + (3 * TS.Width), o0d);
            Add(out1 + d, o1a);
            Add(out1 + d + TS.Width, o1b);
            Add(out1 + d + (2 * TS.Width), o1c);
            Add(out1 + d + (3 * TS.Width), o1d);
            Add(out2 + d, o2a);
            Add(out2 + d + TS.Width, o2b);
            Add(out2 + d + (2 * TS.Width), o2c);
            Add(out2 + d + (3 * TS.Width), o2d);
            Add(out3 + d, o3a);
            Add(out3 + d + TS.Width, o3b);
            Add(out3 + d + (2 * TS.Width), o3c);
            Add(out3 + d + (3 * TS.Width), o3d);
        }

        for (; d + (2 * TS.Width) <= dim; d += 2 * TS.Width)
        {
            TV o0a = TS.Zero, o0b = TS.Zero, o1a = TS.Zero, o1b = TS.Zero, o2a = TS.Zero, o2b = TS.Zero, o3a = TS.Zero, o3b = TS.Zero;
            for (int j = 0; j < keys; j++)
            {
                byte* v = (byte*)(values[j] + offset);
                TV va = TE.Load<TS, TV>(v, d);
                TV vb = TE.Load<TS, TV>(v, d + TS.Width);
                TV p = TS.Create(weights[j]);
                o0a = TS.MultiplyAdd(p, va, o0a);
                o0b = TS.MultiplyAdd(p, vb, o0b);
                p = TS.Create(weights[j + DecodeTiles.ScoreStride]);
                o1a = TS.MultiplyAdd(p, va, o1a);
                o1b = TS.MultiplyAdd(p, vb, o1b);
                p = TS.Create(weights[j + (2 * DecodeTiles.ScoreStride)]);
                o2a = TS.MultiplyAdd(p, va, o2a);
                o2b = TS.MultiplyAdd(p, vb, o2b);
                p = TS.Create(weights[j + (3 * DecodeTiles.ScoreStride)]);
                o3a = TS.MultiplyAdd(p, va, o3a);
                o3b = TS.MultiplyAdd(p, vb, o3b);
            }

            Add(output + d, o0a);
            Add(output + d + TS.Width, o0b);
            Add(out1 + d, o1a);
            Add(out1 + d + TS.Width, o1b);
            Add(out2 + d, o2a);
            Add(out2 + d + TS.Width, o2b);
            Add(out3 + d, o3a);
            Add(out3 + d + TS.Width, o3b);
        }

        if (d == dim) return;
        for (int r = 0; r < DecodeTiles.Rows; r++)
        {
            float* row = output + (r * (nint)outputStride);
            float* p = weights + (r * (nint)DecodeTiles.ScoreStride);
            int i = d;
            for (; i + TS.Width <= dim; i += TS.Width)
            {
                TV o = TS.Zero;
                for (int j = 0; j < keys; j++) o = TS.MultiplyAdd(TS.Create(p[j]), TE.Load<TS, TV>((byte*)(values[j] + offset), i), o);
                Add(row + i, o);
            }

            Tail(p, values, offset, keys, row, i, dim);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Add(float* output, TV sum) => TS.Store(output, TS.Add(TS.Load(output), sum));

    /// <summary>The elements of the last, incomplete vector, one by one: nothing beyond a row of values is read.</summary>
    private static void Tail(float* weights, nint* values, nint offset, int keys, float* output, int d, int dim)
    {
        for (; d < dim; d++)
        {
            float o = 0;
            for (int j = 0; j < keys; j++) o = ScalarSimd.MultiplyAdd(weights[j], TE.LoadOne((byte*)(values[j] + offset), d), o);
            output[d] += o;
        }
    }
}
