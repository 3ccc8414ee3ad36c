using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Security.Cryptography;
using Xunit;

namespace FusedAttention.Tests;

/// <summary>Quantizing bit for bit: against the definitions in float arithmetic number by number, and the hashes of the law.</summary>
public sealed class KeyValueQuantizationTests
{
    [Fact]
    public void All_values_of_16_bits_become_the_codes_of_the_law()
    {
        ushort[] bits = [.. Enumerable.Range(0, 65536).Select(static b => (ushort)b)];
        Assert.Equal("0212E2599ADCD3301D3BAD890A053B8B41E514049B9988DB67E77C2E21E464CE", Hash(MemoryMarshal.Cast<ushort, Half>(bits)));
        Assert.Equal("2F8096B3B00699A86E3E44C61FC0287C5111AB4B4E3D1AD604F6F3A5B3ECA0DB", Hash(MemoryMarshal.Cast<ushort, BFloat16>(bits)));

        static string Hash<T>(ReadOnlySpan<T> numbers)
            where T : unmanaged
        {
            var codes = new Float8E4M3[numbers.Length];
            KeyValueQuantization.ToFloat8(numbers, 1, codes);
            return Convert.ToHexString(SHA256.HashData(MemoryMarshal.AsBytes<Float8E4M3>(codes)));
        }
    }

    [Fact]
    public void Rows_follow_the_definitions_at_every_length_and_size()
    {
        var random = new Random(3);
        for (int round = 0; round < 6000; round++)
        {
            int dim = random.Next(1, 140);
            float[] row = [.. Enumerable.Range(0, dim).Select(_ => (float)((random.NextDouble() - 0.5) * Math.ScaleB(1, random.Next(-6, 1))))];
            float size = round % 3 == 0 ? 1 : MathF.ScaleB(1, random.Next(-150, 120));
            for (int i = 0; i < dim; i++) row[i] *= size;
            if (round % 50 == 0) Array.Clear(row);
            if (round % 7 == 0) row[random.Next(dim)] = -0f;

            float largest = row.Max(Math.Abs), scale = largest / 127f;
            sbyte[] codes = new sbyte[dim];
            float[] scales = new float[1];
            KeyValueQuantization.ToInt8<float>(row, dim, codes, scales);
            Assert.Equal(BitConverter.SingleToInt32Bits(scale), BitConverter.SingleToInt32Bits(scales[0]));
            for (int i = 0; i < dim; i++) Assert.Equal(scale == 0 ? 0 : Math.Clamp(Math.Round((double)(row[i] / scale), MidpointRounding.ToEven), -127, 127), codes[i]);

            Float8E4M3[] floats = new Float8E4M3[dim];
            KeyValueQuantization.ToFloat8<float>(row, dim, floats, scales);
            float floatScale = largest / 448f;
            Assert.Equal(floatScale == 0 ? 1 : floatScale, scales[0]);
            for (int i = 0; i < dim; i++) Assert.Equal(((Float8E4M3)(row[i] / scales[0])).ToBits(), floats[i].ToBits());
            float given = MathF.ScaleB((float)random.NextDouble() + 0.1f, random.Next(-20, 20));
            KeyValueQuantization.ToFloat8<float>(row, given, floats);
            for (int i = 0; i < dim; i++) Assert.Equal(((Float8E4M3)(row[i] / given)).ToBits(), floats[i].ToBits());
        }
    }

    /// <summary>Where the scale is subnormal, quotients reach 190 and codes do not.</summary>
    [Fact]
    public void Subnormal_scales_are_not_flushed_and_codes_are_clamped()
    {
        float[] row = [.. Enumerable.Range(0, 40).Select(static i => BitConverter.Int32BitsToSingle(i % 2 == 0 ? 64 + (3 * i) : unchecked((int)0x80000000) | (64 + i)))];
        sbyte[] codes = new sbyte[40];
        float[] scales = new float[1];
        KeyValueQuantization.ToInt8<float>(row, 40, codes, scales);
        Assert.Equal(float.Epsilon, scales[0]);
        for (int i = 0; i < 40; i++) Assert.Equal(Math.Clamp((double)row[i] / float.Epsilon, -127, 127), codes[i]);

        KeyValueQuantization.ToInt8<float>([63 * float.Epsilon, -5 * float.Epsilon], 2, codes.AsSpan(0, 2), scales);
        Assert.Equal((0, 0, 0f), (codes[0], codes[1], scales[0]));
    }

    [Fact]
    public void Blocks_have_the_scale_of_their_own_numbers()
    {
        var random = new Random(5);
        float[] numbers = [.. Enumerable.Range(0, 32 * 50).Select(i => (float)((random.NextDouble() - 0.5) * Math.ScaleB(1, (i / 32 % 40) - 20)))];
        numbers.AsSpan(0, 32).Clear();
        numbers[40] = 1e30f;
        var blocks = new Q8Block[50];
        KeyValueQuantization.ToQ8Blocks<float>(numbers, blocks);
        for (int b = 0; b < blocks.Length; b++)
        {
            float[] own = numbers[(b * 32)..((b + 1) * 32)];
            Half scale = (Half)Math.Min(own.Max(Math.Abs) / 127f, 65504f);
            Assert.Equal(scale, blocks[b].Scale);
            for (int i = 0; i < 32; i++)
            {
                Assert.Equal((float)scale == 0 ? 0 : Math.Clamp(Math.Round((double)(own[i] / (float)scale), MidpointRounding.ToEven), -127, 127), blocks[b].Codes[i]);
                Assert.Equal((float)scale * blocks[b].Codes[i], blocks[b][i]);
            }
        }
    }

    [Fact]
    public void A_block_lies_in_memory_as_engines_have_it()
    {
        Assert.Equal(34, Unsafe.SizeOf<Q8Block>());
        var block = new Q8Block { Scale = (Half)1.5f };
        block.Codes[0] = -3;
        block.Codes[31] = 7;
        byte[] bytes = MemoryMarshal.AsBytes<Q8Block>([block]).ToArray();
        Assert.Equal((0x00, 0x3E, 0xFD, 7), (bytes[0], bytes[1], bytes[2], bytes[33]));
        Assert.Equal(-4.5f, block[0]);
        Assert.Throws<IndexOutOfRangeException>(() => block[32]);
    }

    [Fact]
    public void Widened_halves_and_bfloats_become_what_their_floats_become()
    {
        var generator = new ProblemGenerator(4);
        Check<Half>(AttentionElementType.Float16);
        Check<BFloat16>(AttentionElementType.BFloat16);

        void Check<T>(AttentionElementType type)
            where T : unmanaged
        {
            float[] rows = generator.Numbers(5 * 37, 3, type);
            sbyte[] expected = new sbyte[rows.Length], actual = new sbyte[rows.Length];
            float[] expectedScales = new float[5], actualScales = new float[5];
            KeyValueQuantization.ToInt8<float>(rows, 37, expected, expectedScales);
            KeyValueQuantization.ToInt8<T>(Elements.FromAll<T>(rows), 37, actual, actualScales);
            Assert.Equal(expected, actual);
            Assert.Equal(expectedScales, actualScales);
        }
    }

    [Fact]
    public void What_does_not_fit_is_refused()
    {
        Refusal.Of("rows", static _ => KeyValueQuantization.ToInt8<float>(new float[7], 3, new sbyte[7], new float[2]), "7", "3");
        Refusal.Of("codes", static _ => KeyValueQuantization.ToInt8<float>(new float[6], 3, new sbyte[5], new float[2]), "5", "6");
        Refusal.Of("scales", static _ => KeyValueQuantization.ToInt8<float>(new float[6], 3, new sbyte[6], new float[3]), "3", "2");
        Refusal.Of("rows", static _ => KeyValueQuantization.ToInt8<double>(new double[6], 3, new sbyte[6], new float[2]), "Double");
        Refusal.Of("codes", static _ => KeyValueQuantization.ToFloat8<float>(new float[6], 1, new Float8E4M3[5]), "5", "6");
        Refusal.Of("scale", static _ => KeyValueQuantization.ToFloat8<float>(new float[6], 0, new Float8E4M3[6]), "0");
        Refusal.Of("scale", static _ => KeyValueQuantization.ToFloat8<float>(new float[6], float.NaN, new Float8E4M3[6]), "NaN");
        Refusal.Of("blocks", static _ => KeyValueQuantization.ToQ8Blocks<float>(new float[33], new Q8Block[1]), "33", "32");
        Assert.Throws<ArgumentOutOfRangeException>("dim", static () => KeyValueQuantization.ToInt8<float>(new float[6], 0, new sbyte[6], new float[2]));
    }
}
