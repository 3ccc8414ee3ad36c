using Xunit;

namespace FusedAttention.Tests;

public sealed class BFloat16Tests
{
    [Fact]
    public void Every_bit_pattern_survives_widening_and_rounding()
    {
        for (int bits = 0; bits <= ushort.MaxValue; bits++)
        {
            BFloat16 value = BFloat16.FromBits((ushort)bits);
            Assert.Equal((ushort)bits, value.ToBits());
            float widened = value;
            Assert.Equal((uint)bits << 16, BitConverter.SingleToUInt32Bits(widened));
            // Rounding makes a signalling NaN quiet, and changes nothing else.
            int expected = BFloat16.IsNaN(value) ? bits | 0x0040 : bits;
            Assert.Equal((ushort)expected, ((BFloat16)widened).ToBits());
        }
    }

    [Fact]
    public void Rounding_finds_the_nearest_value_and_the_even_one_of_two()
    {
        var random = new Random(16);
        float[] edges =
        [
            0f, -0f, 1f, -1f, float.Epsilon, -float.Epsilon, float.MaxValue, float.MinValue, float.PositiveInfinity, float.NegativeInfinity,
            BFloat16.MaxValue, BFloat16.MinValue, 1.00390625f, 1.01171875f, 1.0039063f, 1.0039062f, 3.3961776e38f, 3.3961775e38f, 1.17549435e-38f, 1e-40f,
        ];
        foreach (float edge in edges) AssertNearest(edge);
        for (int i = 0; i < 200_000; i++)
        {
            uint bits = (uint)random.NextInt64(1L << 32);
            // Half of the samples lie on or beside the middle of two neighbours, where rounding goes wrong if it goes wrong.
            if (i % 2 == 0) bits = (bits & 0xFFFF0000) | (uint)(0x8000 + random.Next(-1, 2));
            float value = BitConverter.UInt32BitsToSingle(bits);
            if (!float.IsNaN(value)) AssertNearest(value);
        }
    }

    [Fact]
    public void NaN_stays_NaN_with_its_sign()
    {
        for (uint payload = 1; payload < 0x800000; payload = (payload * 2) + 1)
        {
            foreach (uint sign in (uint[])[0, 0x80000000])
            {
                var rounded = (BFloat16)BitConverter.UInt32BitsToSingle(sign | 0x7F800000 | payload);
                Assert.True(BFloat16.IsNaN(rounded));
                Assert.Equal(sign != 0, (rounded.ToBits() & 0x8000) != 0);
            }
        }
    }

    [Fact]
    public void Classification_and_order_follow_float()
    {
        var random = new Random(17);
        for (int i = 0; i < 20_000; i++)
        {
            BFloat16 a = BFloat16.FromBits((ushort)random.Next(65536));
            BFloat16 b = BFloat16.FromBits((ushort)random.Next(65536));
            float x = a;
            float y = b;
            Assert.Equal(float.IsNaN(x), BFloat16.IsNaN(a));
            Assert.Equal(float.IsFinite(x), BFloat16.IsFinite(a));
            Assert.Equal(x == y, a == b);
            Assert.Equal(x != y, a != b);
            Assert.Equal(x < y, a < b);
            Assert.Equal(x > y, a > b);
            Assert.Equal(x <= y, a <= b);
            Assert.Equal(x >= y, a >= b);
            Assert.Equal(x.CompareTo(y), a.CompareTo(b));
            Assert.Equal(x.Equals(y), a.Equals(b));
            if (a.Equals(b)) Assert.Equal(a.GetHashCode(), b.GetHashCode());
        }
    }

    [Fact]
    public void Named_values_are_what_their_names_say()
    {
        Assert.Equal(0f, BFloat16.Zero);
        Assert.Equal(1f, BFloat16.One);
        Assert.True(BFloat16.IsNaN(BFloat16.NaN));
        Assert.Equal(float.PositiveInfinity, BFloat16.PositiveInfinity);
        Assert.Equal(float.NegativeInfinity, BFloat16.NegativeInfinity);
        Assert.Equal(3.3895314e38f, BFloat16.MaxValue);
        Assert.Equal(-3.3895314e38f, BFloat16.MinValue);
        Assert.True(BFloat16.Zero.Equals((object)BFloat16.FromBits(0)));
        Assert.False(BFloat16.Zero.Equals((object)0f));
        Assert.Equal("1.5", ((BFloat16)1.5f).ToString());
        Assert.Equal("1.50", ((BFloat16)1.5f).ToString("F2", formatProvider: null));
        Assert.Equal(2, System.Runtime.CompilerServices.Unsafe.SizeOf<BFloat16>());
    }

    /// <summary>Looks at the neighbours on both sides in double precision: no shift or carry as in the code under test.</summary>
    private static void AssertNearest(float value)
    {
        var rounded = (BFloat16)value;
        if (float.IsInfinity(value))
        {
            Assert.Equal(value, rounded);
            return;
        }

        // The value that overflow rounds to stands one step beyond the largest finite one: 2^128.
        double Distance(ushort bits)
        {
            float candidate = BFloat16.FromBits(bits);
            double exact = float.IsInfinity(candidate) ? Math.CopySign(Math.ScaleB(1, 128), candidate) : candidate;
            return Math.Abs(exact - value);
        }

        ushort bits = rounded.ToBits();
        Assert.Equal(float.IsNegative(value), (bits & 0x8000) != 0);
        double distance = Distance(bits);
        ushort magnitude = (ushort)(bits & 0x7FFF);
        ushort sign = (ushort)(bits & 0x8000);
        if (magnitude > 0) AssertNotNearer(Distance((ushort)(sign | (magnitude - 1))));
        if (magnitude < 0x7F80) AssertNotNearer(Distance((ushort)(sign | (magnitude + 1))));

        void AssertNotNearer(double neighbour)
        {
            if (neighbour < distance || (neighbour == distance && bits % 2 != 0)) Assert.Fail($"{value:R} was rounded to {(float)rounded:R}.");
        }
    }
}
