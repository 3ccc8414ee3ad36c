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
            case AttentionElementType.Int8: Widen<Int8Element>(source, destination, count); break;
            case AttentionElementType.Float8E4M3: Widen<Float8E4M3Element>(source, destination, count); break;
            case AttentionElementType.Q8Block: Widen<Q8BlockElement>(source, destination, count); break;
            default: throw ElementTypes.Unknown(type);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void Widen<TE>(byte* source, float* destination, int count)
        where TE : struct, IElement
    {
        if (typeof(TE) == typeof(Q8BlockElement))
        {
            WidenBlocks(source, destination, count);
            return;
        }

        int i = 0;
        for (; i + TS.Width <= count; i += TS.Width) TS.Store(destination + i, TE.Load<TS, TV>(source, i));
        for (; i < count; i++) destination[i] = TE.LoadOne(source, i);
    }

    /// <summary>
    /// Blocks with a scale, which is converted once a block, by a shift and a product: the runtime's conversion is a call, across which nothing stays in a vector register. Among the products of a decode it cost five times
    /// as much as all of them, and once a block here still a quarter.
    /// </summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void WidenBlocks(byte* source, float* destination, int count)
    {
        for (float* end = destination + count; destination < end; destination += Q8Block.Length, source += Q8Block.SizeInBytes)
        {
            bool isSpecial = (*(ushort*)source & HalfBits.Exponent) == HalfBits.Exponent;
            TV scale = TS.Create(isSpecial ? ScalarSimd.LoadHalf((ushort*)source) : ScalarSimd.LoadHalfUnrebased((ushort*)source) * HalfBits.Rebase);
            sbyte* codes = (sbyte*)source + sizeof(ushort);
            for (int i = 0; i < Q8Block.Length; i += TS.Width) TS.Store(destination + i, TS.Multiply(TS.LoadInt8(codes + i), scale));
        }
    }

    /// <summary>destination = source * factor, rounded to the type. Adds 0, so that a zero is always positive: a masked key's 0 * v must not show.</summary>
    /// <param name="type">The destination's element type.</param>
    /// <param name="source">The row; whole vectors of it may be read.</param>
    /// <param name="factor">What it is multiplied with.</param>
    /// <param name="destination">Receives exactly <paramref name="count"/> elements.</param>
    /// <param name="count">Elements of the row.</param>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void ScaleAndNarrow(AttentionElementType type, float* source, float factor, byte* destination, int count)
    {
        TV scale = TS.Create(factor);
        int i = 0;
        switch (type)
        {
            case AttentionElementType.Float32:
                for (; i + TS.Width <= count; i += TS.Width) TS.Store((float*)destination + i, Scaled(source + i, scale));
                for (; i < count; i++) ((float*)destination)[i] = (source[i] * factor) + 0f;
                break;
            case AttentionElementType.Float16:
                for (; i + TS.Width <= count; i += TS.Width) TS.StoreHalf((ushort*)destination + i, Scaled(source + i, scale));
                for (; i < count; i++) ScalarSimd.StoreHalf((ushort*)destination + i, (source[i] * factor) + 0f);
                break;
            case AttentionElementType.BFloat16:
                for (; i + TS.Width <= count; i += TS.Width) TS.StoreBFloat16((ushort*)destination + i, Scaled(source + i, scale));
                for (; i < count; i++) ScalarSimd.StoreBFloat16((ushort*)destination + i, (source[i] * factor) + 0f);
                break;
            default:
                throw ElementTypes.Unknown(type);
        }
    }

    /// <summary>Rounds to the type; what is of the type already keeps its bits, a zero's sign among them.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void Narrow(AttentionElementType type, float* source, byte* destination, int count)
    {
        int i = 0;
        switch (type)
        {
            case AttentionElementType.Float32:
                for (; i + TS.Width <= count; i += TS.Width) TS.Store((float*)destination + i, TS.Load(source + i));
                for (; i < count; i++) ((float*)destination)[i] = source[i];
                break;
            case AttentionElementType.Float16:
                for (; i + TS.Width <= count; i += TS.Width) TS.StoreHalf((ushort*)destination + i, TS.Load(source + i));
                for (; i < count; i++) ScalarSimd.StoreHalf((ushort*)destination + i, source[i]);
                break;
            case AttentionElementType.BFloat16:
                for (; i + TS.Width <= count; i += TS.Width) TS.StoreBFloat16((ushort*)destination + i, TS.Load(source + i));
                for (; i < count; i++) ScalarSimd.StoreBFloat16((ushort*)destination + i, source[i]);
                break;
            default:
                throw ElementTypes.Unknown(type);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static TV Scaled(float* source, TV scale) => TS.Add(TS.Multiply(TS.Load(source), scale), TS.Zero);
}
