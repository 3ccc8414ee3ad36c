using System.Runtime.CompilerServices;
using FusedAttention.Cpu.Numerics;
using FusedAttention.Tensors;

namespace FusedAttention.Cpu.Rotary;

/// <summary>
/// <c>(x, y) -> (x cos - y sin, y cos + x sin)</c> for pairs of elements, read, turned and written in one pass: widened exactly, in 32 bits, rounded once.
/// </summary>
/// <remarks>
/// Products are not fused with sums: two roundings more in the last bit buy the same bits on every machine, in vectors and in what no vector covers. The work is 3 operations an element beside a load and a store,
/// so memory decides.
/// </remarks>
internal static unsafe class RotaryKernel<TS, TV>
    where TS : struct, ISimd<TV>
    where TV : unmanaged
{
    public static void Rotate(in RotaryHeads heads)
    {
        switch (heads.Source.Type)
        {
            case AttentionElementType.Float32: Rotate<Float32Element>(heads); break;
            case AttentionElementType.Float16: Rotate<Float16Element>(heads); break;
            case AttentionElementType.BFloat16: Rotate<BFloat16Element>(heads); break;
            default: throw ElementTypes.Unknown(heads.Source.Type);
        }
    }

    private static void Rotate<TE>(in RotaryHeads heads)
        where TE : struct, IElement
    {
        switch (heads.Destination.Type)
        {
            case AttentionElementType.Float32: Rotate<TE, Float32Element>(heads); break;
            case AttentionElementType.Float16: Rotate<TE, Float16Element>(heads); break;
            case AttentionElementType.BFloat16: Rotate<TE, BFloat16Element>(heads); break;
            default: throw ElementTypes.Unknown(heads.Destination.Type);
        }
    }

    private static void Rotate<TE, TD>(in RotaryHeads heads)
        where TE : struct, IElement
        where TD : struct, IWritableElement
    {
        byte* source = (byte*)heads.Source.First + (heads.First * TE.Size), destination = (byte*)heads.Destination.First + (heads.First * TD.Size);
        for (int head = 0; head < heads.Heads; head++, source += heads.Source.Stride * TE.Size, destination += heads.Destination.Stride * TD.Size)
        {
            if (heads.Distance == 1) SideBySide<TE, TD>(source, destination, heads.Cosines, heads.Sines, heads.Pairs);
            else Apart<TE, TD>(source, destination, heads.Distance, heads.Cosines, heads.Sines, heads.Pairs);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Apart<TE, TD>(byte* source, byte* destination, nint distance, float* cosines, float* sines, nint pairs)
        where TE : struct, IElement
        where TD : struct, IWritableElement
    {
        nint i = 0;
        for (; i + TS.Width <= pairs; i += TS.Width)
        {
            Turn<TS, TV>(TE.Load<TS, TV>(source, i), TE.Load<TS, TV>(source, distance + i), TS.Load(cosines + i), TS.Load(sines + i), out TV x, out TV y);
            TD.Store<TS, TV>(destination, i, x);
            TD.Store<TS, TV>(destination, distance + i, y);
        }

        for (; i < pairs; i++)
        {
            Turn<ScalarSimd, float>(TE.LoadOne(source, i), TE.LoadOne(source, distance + i), cosines[i], sines[i], out float x, out float y);
            TD.StoreOne(destination, i, x);
            TD.StoreOne(destination, distance + i, y);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void SideBySide<TE, TD>(byte* source, byte* destination, float* cosines, float* sines, nint pairs)
        where TE : struct, IElement
        where TD : struct, IWritableElement
    {
        nint i = 0;
        for (; i + TS.Width <= pairs; i += TS.Width)
        {
            TS.Deinterleave(TE.Load<TS, TV>(source, 2 * i), TE.Load<TS, TV>(source, (2 * i) + TS.Width), out TV x, out TV y);
            Turn<TS, TV>(x, y, TS.Load(cosines + i), TS.Load(sines + i), out x, out y);
            TS.Interleave(x, y, out TV first, out TV second);
            TD.Store<TS, TV>(destination, 2 * i, first);
            TD.Store<TS, TV>(destination, (2 * i) + TS.Width, second);
        }

        for (; i < pairs; i++)
        {
            Turn<ScalarSimd, float>(TE.LoadOne(source, 2 * i), TE.LoadOne(source, (2 * i) + 1), cosines[i], sines[i], out float x, out float y);
            TD.StoreOne(destination, 2 * i, x);
            TD.StoreOne(destination, (2 * i) + 1, y);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Turn<TSimd, TVector>(TVector x, TVector y, TVector cosine, TVector sine, out TVector turnedX, out TVector turnedY)
        where TSimd : struct, ISimd<TVector>
        where TVector : unmanaged
    {
        turnedX = TSimd.Subtract(TSimd.Multiply(x, cosine), TSimd.Multiply(y, sine));
        turnedY = TSimd.Add(TSimd.Multiply(y, cosine), TSimd.Multiply(x, sine));
    }
}
