using System.Runtime.CompilerServices;
using FusedAttention.Cpu.Numerics;
using FusedAttention.Tensors;

namespace FusedAttention.Cpu.Rows;

/// <summary>Rows of elements to and from 32-bit floats. Exactly the elements of the row are touched.</summary>
internal static unsafe class RowConversion<TS, TV>
    where TS : struct, ISimd<TV>
    where TV : unmanaged
{
    public static void Widen(AttentionElementType type, byte* source, float* destination, int count)
    {
        switch (type)
        {
            case AttentionElementType.Float32: Widen<Float32Element>(source, destination, count); break;
            case AttentionElementType.Float16: Widen<Float16Element>(source, destination, count); break;
            case AttentionElementType.BFloat16: Widen<BFloat16Element>(source, destination, count); break;
            default: throw ElementTypes.Unknown(type);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void Widen<TE>(byte* source, float* destination, int count)
        where TE : struct, IElement
    {
        int i = 0;
        for (; i + TS.Width <= count; i += TS.Width) TS.Store(destination + i, TE.Load<TS, TV>(source, i));
        for (; i < count; i++) destination[i] = TE.LoadOne(source, i);
    }

    /// <summary>destination = source * factor, rounded to the type. Adds 0, so that a zero is always positive: a masked key's 0 * v must not show.</summary>
    /// <returns>Whether every product is finite, before it is rounded to the type.</returns>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static bool ScaleAndNarrow(AttentionElementType type, float* source, float factor, byte* destination, int count)
    {
        TV scale = TS.Create(factor);
        TV check = TS.Zero;     // a product with 0 is 0 unless the other factor is infinite or NaN
        float checkOne = 0;
        int i = 0;
        switch (type)
        {
            case AttentionElementType.Float32:
                for (; i + TS.Width <= count; i += TS.Width) TS.Store((float*)destination + i, Scaled(source + i, scale, ref check));
                for (; i < count; i++) ((float*)destination)[i] = Scaled(source[i], factor, ref checkOne);
                break;
            case AttentionElementType.Float16:
                for (; i + TS.Width <= count; i += TS.Width) TS.StoreHalf((ushort*)destination + i, Scaled(source + i, scale, ref check));
                for (; i < count; i++) ScalarSimd.StoreHalf((ushort*)destination + i, Scaled(source[i], factor, ref checkOne));
                break;
            case AttentionElementType.BFloat16:
                for (; i + TS.Width <= count; i += TS.Width) TS.StoreBFloat16((ushort*)destination + i, Scaled(source + i, scale, ref check));
                for (; i < count; i++) ScalarSimd.StoreBFloat16((ushort*)destination + i, Scaled(source[i], factor, ref checkOne));
                break;
            default:
                throw ElementTypes.Unknown(type);
        }

        return TS.Sum(check) + checkOne == 0;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static TV Scaled(float* source, TV scale, ref TV check)
    {
        TV product = TS.Add(TS.Multiply(TS.Load(source), scale), TS.Zero);
        check = TS.MultiplyAdd(product, TS.Zero, check);
        return product;
    }

    private static float Scaled(float source, float factor, ref float check)
    {
        float product = (source * factor) + 0f;
        check += product * 0;
        return product;
    }
}
