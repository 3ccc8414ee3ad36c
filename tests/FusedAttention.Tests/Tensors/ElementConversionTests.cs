using System.Runtime.InteropServices;
using FusedAttention.Tensors;
using Xunit;

namespace FusedAttention.Tests.Tensors;

public sealed unsafe class ElementConversionTests
{
    private static readonly AttentionElementType[] Types = [AttentionElementType.Float32, AttentionElementType.Float16, AttentionElementType.BFloat16];

    public static TheoryData<AttentionElementType, AttentionElementType> Pairs() => [.. Types.SelectMany(static from => Types.Select(to => (from, to)))];

    /// <summary>Against the conversion of single numbers: the framework's for binary16; for bfloat16 what rounding is, in double precision.</summary>
    [Theory]
    [MemberData(nameof(Pairs))]
    public void Every_pattern_is_rounded_to_nearest_even_once(AttentionElementType from, AttentionElementType to)
    {
        byte[] source = ConversionCases.Of(from);
        int count = source.Length / from.Size();
        byte[] expected = new byte[count * to.Size()], found = new byte[expected.Length];
        for (int i = 0; i < count; i++) Set(expected, i, from == to ? source.AsSpan(i * from.Size(), from.Size()) : Round(Read(source, i, from), to));
        Convert(source, from, found, to, count);
        ConversionCases.AssertEqual(to, expected, found);
        if (from == to) Assert.Equal(expected, found);

        // Whatever the length and wherever the memory begins: vectors and what is left over agree, and nothing else is touched.
        foreach (int length in (int[])[0, 1, 7, 8, 15, 31, 32, 33, 63, 255, 256, 257, 511, 1025])
        {
            int start = length % 5;
            byte[] part = new byte[(length + 8) * to.Size()];
            part.AsSpan().Fill(0xAA);
            Convert(source.AsSpan(start * from.Size()), from, part.AsSpan(4 * to.Size()), to, length);
            Assert.Equal(found.AsSpan(start * to.Size(), length * to.Size()).ToArray(), part.AsSpan(4 * to.Size(), length * to.Size()).ToArray());
            Assert.DoesNotContain(part[..(4 * to.Size())], static b => b != 0xAA);
            Assert.DoesNotContain(part[^(4 * to.Size())..], static b => b != 0xAA);
        }
    }

    [Fact]
    public void NaN_keeps_its_sign_and_overflow_is_infinite()
    {
        float[] source = [float.NaN, -float.NaN, float.MaxValue, -65520, float.NegativeInfinity, BitConverter.UInt32BitsToSingle(0x7F80_0001)];
        var halves = new Half[6];
        var bfloats = new BFloat16[6];
        fixed (float* from = source)
        fixed (Half* half = halves)
        fixed (BFloat16* bfloat = bfloats)
        {
            ElementConversion.Convert(AttentionElementType.Float32, from, AttentionElementType.Float16, half, 6);
            ElementConversion.Convert(AttentionElementType.Float32, from, AttentionElementType.BFloat16, bfloat, 6);
        }

        Assert.True(Half.IsNaN(halves[0]) && Half.IsNaN(halves[1]) && Half.IsNaN(halves[5]));
        Assert.Equal([Half.PositiveInfinity, Half.NegativeInfinity, Half.NegativeInfinity], halves[2..5]);
        Assert.True(BFloat16.IsNaN(bfloats[0]) && BFloat16.IsNaN(bfloats[1]) && BFloat16.IsNaN(bfloats[5]));
        Assert.Equal([BFloat16.PositiveInfinity, (BFloat16)(-65520f), BFloat16.NegativeInfinity], bfloats[2..5]);
    }

    [Fact]
    public void A_type_that_nobody_knows_is_refused()
    {
        Assert.Throws<ArgumentOutOfRangeException>(() => Convert(new byte[4], (AttentionElementType)77, new byte[4], AttentionElementType.Float16, 1));
        Assert.Throws<ArgumentOutOfRangeException>(() => Convert(new byte[4], AttentionElementType.Float32, new byte[4], (AttentionElementType)77, 1));
    }

    [Fact]
    public void Nothing_is_allocated()
    {
        float[] source = new float[3000];
        var halves = new Half[3000];
        var bfloats = new BFloat16[3000];
        Run();
        long before = GC.GetAllocatedBytesForCurrentThread();
        Run();
        Assert.Equal(0, GC.GetAllocatedBytesForCurrentThread() - before);

        void Run()
        {
            fixed (float* from = source)
            fixed (Half* half = halves)
            fixed (BFloat16* bfloat = bfloats)
            {
                ElementConversion.Convert(AttentionElementType.Float32, from, AttentionElementType.Float16, half, 3000);
                ElementConversion.Convert(AttentionElementType.Float16, half, AttentionElementType.BFloat16, bfloat, 3000);
                ElementConversion.Convert(AttentionElementType.BFloat16, bfloat, AttentionElementType.Float32, from, 3000);
            }
        }
    }

    private static void Convert(ReadOnlySpan<byte> source, AttentionElementType from, Span<byte> destination, AttentionElementType to, int count)
    {
        fixed (byte* first = source, result = destination) ElementConversion.Convert(from, first, to, result, count);
    }

    private static float Read(byte[] source, int index, AttentionElementType type) => type switch
    {
        AttentionElementType.Float32 => MemoryMarshal.Cast<byte, float>(source)[index],
        AttentionElementType.Float16 => (float)MemoryMarshal.Cast<byte, Half>(source)[index],
        _ => BitConverter.UInt32BitsToSingle((uint)MemoryMarshal.Cast<byte, ushort>(source)[index] << 16),
    };

    private static byte[] Round(float value, AttentionElementType type) => type switch
    {
        AttentionElementType.Float32 => BitConverter.GetBytes(value),
        AttentionElementType.Float16 => BitConverter.GetBytes((Half)value),
        _ => BitConverter.GetBytes(NearestBFloat16(value)),
    };

    /// <summary>The nearer of the two neighbours, the even one of two that are equally near. Beyond the largest lies 2^128, which stands for infinity.</summary>
    private static ushort NearestBFloat16(float value)
    {
        ushort below = (ushort)(BitConverter.SingleToUInt32Bits(value) >> 16);
        if (!float.IsFinite(value)) return float.IsNaN(value) ? (ushort)0x7FC0 : below;
        double low = Widen(below), high = Widen((ushort)(below + 1)), distance = Math.Abs(value - low) - Math.Abs(high - value);
        if (distance == 0) return (below & 1) == 0 ? below : (ushort)(below + 1);
        return distance < 0 ? below : (ushort)(below + 1);

        static double Widen(ushort bits) => (bits & 0x7FFF) == 0x7F80
            ? Math.CopySign(Math.Pow(2, 128), (short)bits)
            : BitConverter.UInt32BitsToSingle((uint)bits << 16);
    }

    private static void Set(byte[] elements, int index, ReadOnlySpan<byte> element) => element.CopyTo(elements.AsSpan(index * element.Length));
}
