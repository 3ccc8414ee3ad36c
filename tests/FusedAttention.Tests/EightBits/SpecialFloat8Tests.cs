using Xunit;

namespace FusedAttention.Tests.EightBits;

/// <summary>NaN codes of <see cref="Float8E4M3"/> go another way through the decode kernel than numbers: they must come out, and change nothing else.</summary>
public sealed class SpecialFloat8Tests
{
    private const int Keys = 150;

    [Theory]
    [MemberData(nameof(Cases))]
    public void A_NaN_value_shows_in_its_column_only(CpuInstructionSet variant, int group, int dim, byte nan)
    {
        Float8E4M3[] value = Random(Keys * 2 * dim, 3);
        float[] finite = Decode(variant, group, dim, Random(Keys * 2 * dim, 2), value);
        Assert.All(finite, static x => Assert.True(float.IsFinite(x)));

        // Head 1 of token 97, in the last column.
        value[(((97 * 2) + 2) * dim) - 1] = Float8E4M3.FromBits(nan);
        float[] output = Decode(variant, group, dim, Random(Keys * 2 * dim, 2), value);
        for (int i = 0; i < output.Length; i++)
        {
            if (i >= group * dim && i % dim == dim - 1) Assert.True(float.IsNaN(output[i]));
            else Assert.Equal(finite[i], output[i]);
        }
    }

    [Theory]
    [MemberData(nameof(Cases))]
    public void A_NaN_key_shows_in_its_head_only(CpuInstructionSet variant, int group, int dim, byte nan)
    {
        Float8E4M3[] key = Random(Keys * 2 * dim, 2);
        float[] finite = Decode(variant, group, dim, key, Random(Keys * 2 * dim, 3));
        key[(((70 * 2) + 1) * dim) - 1] = Float8E4M3.FromBits(nan);
        float[] output = Decode(variant, group, dim, key, Random(Keys * 2 * dim, 3));
        for (int i = 0; i < output.Length; i++)
        {
            if (i < group * dim) Assert.True(float.IsNaN(output[i]));
            else Assert.Equal(finite[i], output[i]);
        }
    }

    public static TheoryData<CpuInstructionSet, int, int, byte> Cases()
    {
        var cases = new TheoryData<CpuInstructionSet, int, int, byte>();
        foreach (CpuInstructionSet variant in Variants.All)
        {
            foreach (int group in (int[])[1, 2, 4])
            {
                cases.Add(variant, group, 64, 0x7F);
                cases.Add(variant, group, 40, 0xFF);
            }
        }

        return cases;
    }

    private static float[] Decode(CpuInstructionSet variant, int group, int dim, Float8E4M3[] key, Float8E4M3[] value)
    {
        Assert.SkipUnless(Variants.IsSupported(variant), $"{variant} is not available here.");
        float[] query = Array.ConvertAll(Random(2 * group * dim, 1), static x => (float)x);
        float[] output = new float[query.Length];
        Attention.Forward<float, Float8E4M3>(query, key, value, output, new AttentionShape(1, 1, Keys, 2 * group, 2, dim), execution: new() { InstructionSet = variant });
        return output;
    }

    private static Float8E4M3[] Random(int count, int seed)
    {
        var random = new Random(seed);
        return Array.ConvertAll(new Float8E4M3[count], _ => (Float8E4M3)(float)((random.NextDouble() * 2) - 1));
    }
}
