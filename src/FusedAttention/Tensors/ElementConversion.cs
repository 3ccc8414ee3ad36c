using System.Numerics;
using System.Numerics.Tensors;
using System.Runtime.CompilerServices;

namespace FusedAttention.Tensors;

/// <summary>
/// Elements of one type to elements of another: widening is exact, narrowing rounds to nearest with ties to even, what is too large becomes infinite, NaN stays NaN. Between the two 16-bit types the
/// way leads over 32 bits, which hold every value of both, so there too a number is rounded once.
/// </summary>
/// <remarks>For rows that are stored, not for kernels: these widen in registers (<c>ISimd</c>).</remarks>
internal static unsafe class ElementConversion
{
    /// <summary>Floats on the stack between two 16-bit types: 1 KB.</summary>
    private const int Step = 256;

    /// <summary>Spans count in 32 bits.</summary>
    private const int LongestSpan = 1 << 30;

    /// <summary>Converts elements that lie one after the other. Source and destination may overlap only if the types are equal.</summary>
    public static void Convert(AttentionElementType from, void* source, AttentionElementType to, void* destination, long count)
    {
        if (from == to)
        {
            Buffer.MemoryCopy(source, destination, count * from.Size(), count * from.Size());
            return;
        }

        for (long done = 0; done < count; done += LongestSpan)
            ConvertSpan(from, (byte*)source + (done * from.Size()), to, (byte*)destination + (done * to.Size()), (int)Math.Min(LongestSpan, count - done));
    }

    private static void ConvertSpan(AttentionElementType from, void* source, AttentionElementType to, void* destination, int count)
    {
        switch (from, to)
        {
            case (AttentionElementType.Float32, AttentionElementType.Float16 or AttentionElementType.BFloat16):
                Narrow(new(source, count), to, destination);
                break;
            case (AttentionElementType.Float16 or AttentionElementType.BFloat16, AttentionElementType.Float32):
                Widen(from, source, new(destination, count));
                break;
            case (AttentionElementType.Float16, AttentionElementType.BFloat16):
            case (AttentionElementType.BFloat16, AttentionElementType.Float16):
                ConvertThroughFloats(from, source, to, destination, count);
                break;
            default:
                throw ElementTypes.Unknown(from);
        }
    }

    [SkipLocalsInit]
    private static void ConvertThroughFloats(AttentionElementType from, void* source, AttentionElementType to, void* destination, int count)
    {
        Span<float> floats = stackalloc float[Step];
        for (int done = 0; done < count; done += Step)
        {
            Span<float> some = floats[..Math.Min(Step, count - done)];
            Widen(from, (ushort*)source + done, some);
            Narrow(some, to, (ushort*)destination + done);
        }
    }

    private static void Widen(AttentionElementType from, void* source, Span<float> floats)
    {
        switch (from)
        {
            case AttentionElementType.Float16: TensorPrimitives.ConvertToSingle(new ReadOnlySpan<Half>(source, floats.Length), floats); break;
            case AttentionElementType.BFloat16: WidenBFloat16((ushort*)source, floats); break;
            default: throw ElementTypes.Unknown(from);
        }
    }

    private static void Narrow(ReadOnlySpan<float> floats, AttentionElementType to, void* destination)
    {
        switch (to)
        {
            case AttentionElementType.Float16: TensorPrimitives.ConvertToHalf(floats, new Span<Half>(destination, floats.Length)); break;
            case AttentionElementType.BFloat16: NarrowToBFloat16(floats, (ushort*)destination); break;
            default: throw ElementTypes.Unknown(to);
        }
    }

    private static void WidenBFloat16(ushort* source, Span<float> floats)
    {
        int i = 0;
        fixed (float* destination = floats)
        {
            for (; i + Vector<ushort>.Count <= floats.Length; i += Vector<ushort>.Count)
            {
                Vector.Widen(Vector.Load(source + i), out Vector<uint> low, out Vector<uint> high);
                Vector.Store(low << 16, (uint*)destination + i);
                Vector.Store(high << 16, (uint*)destination + i + Vector<uint>.Count);
            }

            for (; i < floats.Length; i++) destination[i] = BFloat16.FromBits(source[i]);
        }
    }

    private static void NarrowToBFloat16(ReadOnlySpan<float> floats, ushort* destination)
    {
        int i = 0;
        fixed (float* source = floats)
        {
            for (; i + Vector<ushort>.Count <= floats.Length; i += Vector<ushort>.Count)
            {
                Vector<uint> low = UpperHalves(Vector.Load((uint*)source + i)), high = UpperHalves(Vector.Load((uint*)source + i + Vector<uint>.Count));
                Vector.Store(Vector.Narrow(low, high), destination + i);
            }

            for (; i < floats.Length; i++) destination[i] = ((BFloat16)source[i]).ToBits();
        }
    }

    /// <summary>The 16 bits that are kept of each float, rounded: adding a little less than half of what is cut, and the last kept bit, carries exactly when nearest-even says so. NaN is made quiet instead.</summary>
    private static Vector<uint> UpperHalves(Vector<uint> bits)
    {
        Vector<uint> rounded = bits + new Vector<uint>(0x7FFF) + ((bits >>> 16) & Vector<uint>.One);
        Vector<int> isNaN = Vector.GreaterThan(Vector.AsVectorInt32(bits & new Vector<uint>(0x7FFF_FFFF)), new Vector<int>(0x7F80_0000));
        return Vector.ConditionalSelect(Vector.AsVectorUInt32(isNaN), bits | new Vector<uint>(0x0040_0000), rounded) >>> 16;
    }
}
