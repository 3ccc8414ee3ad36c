using System.Runtime.InteropServices;
using Xunit;

namespace FusedAttention.Testing;

/// <summary>Elements of a type on which a conversion can go wrong.</summary>
public static class ConversionCases
{
    /// <summary>
    /// Every pattern of a 16-bit type. Of floats: every value of both 16-bit types, every midpoint between two neighbours of them, and the floats on both sides of each midpoint; so all infinities, NaN of
    /// every upper half, and both ends of what overflows, underflows or becomes denormal.
    /// </summary>
    /// <returns>As bytes; the number of elements is a multiple of 2,048.</returns>
    public static byte[] Of(AttentionElementType type)
    {
        if (type != AttentionElementType.Float32)
            return [.. MemoryMarshal.AsBytes<ushort>(Enumerable.Range(0, 1 << 16).Select(static i => (ushort)i).ToArray())];

        var floats = new List<uint>();
        for (uint upper = 0; upper < 1 << 16; upper++)
            floats.AddRange([upper << 16, (upper << 16) | 0x7FFF, (upper << 16) | 0x8000, (upper << 16) | 0x8001, (upper << 16) | 0xFFFF]);
        for (int i = 0; i < 1 << 16; i++)
        {
            // Widened, neighbours of binary16 are an even number of floats apart, so the midpoint is a float; beyond the largest it is where rounding to infinity begins.
            uint low = BitConverter.SingleToUInt32Bits((float)BitConverter.UInt16BitsToHalf((ushort)i));
            bool isLargest = (i & 0x7FFF) == 0x7BFF;
            uint high = isLargest ? low + 0x2000 : BitConverter.SingleToUInt32Bits((float)BitConverter.UInt16BitsToHalf((ushort)(i + 1)));
            uint middle = Math.Max(low, high) - ((Math.Max(low, high) - Math.Min(low, high)) / 2);
            floats.AddRange([low, middle - 1, middle, middle + 1]);
        }

        while (floats.Count % 2048 != 0) floats.Add(0);
        return [.. MemoryMarshal.AsBytes<uint>(floats.ToArray())];
    }

    /// <summary>The same bits, except that any NaN is as good as another.</summary>
    public static void AssertEqual(AttentionElementType type, ReadOnlySpan<byte> expected, ReadOnlySpan<byte> found)
    {
        Assert.Equal(expected.Length, found.Length);
        if (type == AttentionElementType.Float32) Compare(MemoryMarshal.Cast<byte, uint>(expected), MemoryMarshal.Cast<byte, uint>(found), static bits => (bits & 0x7FFF_FFFF) > 0x7F80_0000);
        else if (type == AttentionElementType.Float16) Compare(MemoryMarshal.Cast<byte, ushort>(expected), MemoryMarshal.Cast<byte, ushort>(found), static bits => (bits & 0x7FFF) > 0x7C00);
        else Compare(MemoryMarshal.Cast<byte, ushort>(expected), MemoryMarshal.Cast<byte, ushort>(found), static bits => (bits & 0x7FFF) > 0x7F80);
    }

    private static void Compare<T>(ReadOnlySpan<T> expected, ReadOnlySpan<T> found, Func<T, bool> isNaN)
        where T : unmanaged, IEquatable<T>, IFormattable
    {
        for (int i = 0; i < expected.Length; i++)
        {
            if (!expected[i].Equals(found[i]) && !(isNaN(expected[i]) && isNaN(found[i])))
                Assert.Fail($"element {i} is {found[i]:x}, expected {expected[i]:x}");
        }
    }
}
