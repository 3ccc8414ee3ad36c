using Xunit;

namespace FusedAttention.Cuda.Tests.Emulation;

/// <summary>What widens 8-bit elements, in the emulator, against the library's own conversions.</summary>
public sealed class EightBitInstructionTests
{
    [Fact]
    public void Two_codes_of_8_bits_become_halves()
    {
        for (int first = 0; first < 256; first += 32)
        {
            int[] codes = [.. Enumerable.Range(first, 32).Select(static code => code | ((255 - code) << 8))], none = new int[32];
            int[] halves = TestKernel.Lanes<int, int>("cvt.u16.u32 %h1, %r2; cvt.rn.f16x2.e4m3x2 %r5, %h1;", codes, none, none);
            for (int lane = 0; lane < 32; lane++)
            {
                Assert.Equal((Half)(float)Float8E4M3.FromBits((byte)codes[lane]), BitConverter.UInt16BitsToHalf((ushort)halves[lane]));
                Assert.Equal((Half)(float)Float8E4M3.FromBits((byte)(codes[lane] >> 8)), BitConverter.UInt16BitsToHalf((ushort)(halves[lane] >>> 16)));
            }
        }
    }

    [Theory]
    [InlineData("f16x2")]
    [InlineData("bf16x2")]
    public void Products_and_sums_of_pairs_are_rounded_once(string type)
    {
        bool isHalf = type is "f16x2";
        var random = new Random(5);
        int[] a = Lanes(), b = Lanes(), c = Lanes();
        int[] results = TestKernel.Lanes<int, int>($"fma.rn.{type} %r5, %r2, %r3, %r4;", a, b, c);
        for (int lane = 0; lane < 32; lane++)
        {
            for (int shift = 0; shift < 32; shift += 16)
            {
                double exact = (Number(a[lane] >>> shift) * Number(b[lane] >>> shift)) + Number(c[lane] >>> shift);
                Assert.Equal(isHalf ? (double)(Half)exact : (BFloat16)(float)exact, Number(results[lane] >>> shift));
            }
        }

        double Number(int bits) => isHalf ? (double)BitConverter.UInt16BitsToHalf((ushort)bits) : BitConverter.Int32BitsToSingle(bits << 16);

        // Small whole numbers and quarters: sums are exact in 32 bits.
        int Bits(float number) => isHalf ? BitConverter.HalfToUInt16Bits((Half)number) : (int)(BitConverter.SingleToUInt32Bits(number) >> 16);
        int[] Lanes() => [.. Enumerable.Range(0, 32).Select(_ => Bits(random.Next(-64, 64) / 4f) | (Bits(random.Next(-127, 128)) << 16))];
    }
}
