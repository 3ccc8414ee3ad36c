using System.Security.Cryptography;
using Xunit;

namespace FusedAttention.Tests;

public sealed class Float8E4M3Tests
{
    /// <summary>The value of a code by its definition, in double precision.</summary>
    private static double Defined(int code)
    {
        int exponent = (code >> 3) & 15, fraction = code & 7;
        if (exponent == 15 && fraction == 7) return double.NaN;
        double magnitude = exponent == 0 ? Math.ScaleB(fraction, -9) : Math.ScaleB(8 + fraction, exponent - 10);
        return code >= 128 ? -magnitude : magnitude;
    }

    [Fact]
    public void Every_code_has_the_value_of_its_definition_and_survives_rounding()
    {
        for (int code = 0; code < 256; code++)
        {
            Float8E4M3 value = Float8E4M3.FromBits((byte)code);
            Assert.Equal(code, value.ToBits());
            Assert.Equal(double.IsNaN(Defined(code)), Float8E4M3.IsNaN(value));
            Assert.Equal(Defined(code), (double)(float)value);
            Assert.Equal(code == 0x80, float.IsNegative(value) && value == Float8E4M3.Zero);
            Assert.Equal(Float8E4M3.IsNaN(value) ? 0x7F : code, ((Float8E4M3)(float)value).ToBits());
        }
    }

    /// <summary>The hashes are of the law that the project's set of cases states.</summary>
    [Fact]
    public void All_values_of_16_bits_round_as_the_law_has_it()
    {
        byte[] halves = new byte[65536], bfloats = new byte[65536];
        for (int bits = 0; bits < 65536; bits++)
        {
            halves[bits] = ((Float8E4M3)(float)BitConverter.UInt16BitsToHalf((ushort)bits)).ToBits();
            bfloats[bits] = ((Float8E4M3)(float)BFloat16.FromBits((ushort)bits)).ToBits();
        }

        Assert.Equal("0212E2599ADCD3301D3BAD890A053B8B41E514049B9988DB67E77C2E21E464CE", Convert.ToHexString(SHA256.HashData(halves)));
        Assert.Equal("2F8096B3B00699A86E3E44C61FC0287C5111AB4B4E3D1AD604F6F3A5B3ECA0DB", Convert.ToHexString(SHA256.HashData(bfloats)));
    }

    [Fact]
    public void Rounding_finds_the_nearest_value_and_the_even_one_of_two()
    {
        var random = new Random(8);
        foreach (float edge in (float[])[0, -0f, 448, -448, 464, 463.99997f, 1e30f, float.PositiveInfinity, float.NegativeInfinity, float.Epsilon, -float.Epsilon, 0.0009765625f, 0.00097656256f, 0.015625f, 0.0146484375f]) AssertNearest(edge);
        for (int i = 0; i < 200_000; i++)
        {
            // Half of the samples lie on or beside the middle of two neighbours, where rounding goes wrong if it goes wrong.
            float value = (float)((random.NextDouble() - 0.5) * Math.ScaleB(1, random.Next(-14, 12)));
            if (i % 2 == 0)
            {
                int code = random.Next(0x7E);
                value = (float)((Defined(code) + Defined(code + 1)) / 2);
                value = i % 4 == 0 ? value : BitConverter.Int32BitsToSingle(BitConverter.SingleToInt32Bits(value) + random.Next(-1, 2));
            }

            AssertNearest(value);
            AssertNearest(-value);
        }
    }

    [Fact]
    public void Order_and_equality_follow_float()
    {
        for (int a = 0; a < 256; a++)
        {
            for (int b = 0; b < 256; b++)
            {
                (Float8E4M3 x, Float8E4M3 y) = (Float8E4M3.FromBits((byte)a), Float8E4M3.FromBits((byte)b));
                (float p, float q) = (x, y);
                Assert.True((p == q) == (x == y) && (p != q) == (x != y) && (p < q) == (x < y) && (p > q) == (x > y) && (p <= q) == (x <= y) && (p >= q) == (x >= y), $"{a:x} {b:x}");
                Assert.Equal(p.CompareTo(q), x.CompareTo(y));
                Assert.Equal(p.Equals(q), x.Equals(y));
                if (x.Equals(y)) Assert.Equal(x.GetHashCode(), y.GetHashCode());
            }
        }
    }

    [Fact]
    public void Named_values_are_what_their_names_say()
    {
        Assert.Equal(0f, Float8E4M3.Zero);
        Assert.Equal(1f, Float8E4M3.One);
        Assert.Equal(448f, Float8E4M3.MaxValue);
        Assert.Equal(-448f, Float8E4M3.MinValue);
        Assert.Equal(0.001953125f, Float8E4M3.Epsilon);
        Assert.True(Float8E4M3.IsNaN(Float8E4M3.NaN));
        Assert.False(Float8E4M3.Zero.Equals((object)0f));
        Assert.Equal("1.5", ((Float8E4M3)1.5f).ToString());
        Assert.Equal("1.50", ((Float8E4M3)1.5f).ToString("F2", formatProvider: null));
        Assert.Equal(1, System.Runtime.CompilerServices.Unsafe.SizeOf<Float8E4M3>());
    }

    private static void AssertNearest(float value)
    {
        byte bits = ((Float8E4M3)value).ToBits();
        Assert.Equal(float.IsNegative(value), bits >= 128);
        double magnitude = Math.Min(Math.Abs((double)value), 448);
        int code = bits & 0x7F;
        double distance = Math.Abs(Defined(code) - magnitude);
        foreach (int neighbour in (int[])[code - 1, code + 1])
        {
            if (neighbour is < 0 or > 0x7E) continue;
            double other = Math.Abs(Defined(neighbour) - magnitude);
            Assert.False(other < distance || (other == distance && code % 2 != 0), $"{value:R} was rounded to {Defined(code):R}.");
        }
    }
}
