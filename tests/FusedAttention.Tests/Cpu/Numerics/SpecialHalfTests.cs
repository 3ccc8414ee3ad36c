using System.Numerics.Tensors;
using Xunit;

namespace FusedAttention.Tests.Cpu.Numerics;

/// <summary>
/// Infinite and NaN keys and values in half precision go another way through the decode kernel than finite ones: they must come out as IEEE arithmetic has them, and queries too
/// large for the cheap form must not change a finite result.
/// </summary>
public sealed class SpecialHalfTests
{
    private const int Keys = 150;
    private const int Dim = 40;

    [Theory]
    [InlineData(1)]
    [InlineData(4)]
    public void An_infinite_value_shows_in_its_column_only(int group)
    {
        Half[] value = Random(Keys * Dim, 3);
        value[(97 * Dim) + 5] = Half.PositiveInfinity;
        float[] output = Decode(group, Random(Keys * Dim, 2), value, 1);
        for (int i = 0; i < output.Length; i++) Assert.Equal(i % Dim == 5, float.IsPositiveInfinity(output[i]));
        float[] finite = Decode(group, Random(Keys * Dim, 2), Random(Keys * Dim, 3), 1);
        for (int i = 0; i < output.Length; i++)
        {
            if (i % Dim != 5) Assert.Equal(finite[i], output[i]);
        }
    }

    [Theory]
    [InlineData(1)]
    [InlineData(4)]
    public void A_NaN_key_shows_and_an_infinite_one_of_negative_score_does_not(int group)
    {
        Half[] key = Random(Keys * Dim, 2);
        key[70 * Dim] = Half.NaN;
        Assert.All(Decode(group, key, Random(Keys * Dim, 3), 1), x => Assert.True(float.IsNaN(x)));

        // The query's first element is positive, so this key's score is negative infinity: the bits of a call that excludes it.
        key[70 * Dim] = Half.NegativeInfinity;
        Assert.Equal(Decode(group, Random(Keys * Dim, 2), Random(Keys * Dim, 3), 1, excluded: 70), Decode(group, key, Random(Keys * Dim, 3), 1));
    }

    [Theory]
    [InlineData(1)]
    [InlineData(4)]
    public void Queries_too_large_for_the_cheap_form_have_the_bits_of_small_ones(int group)
    {
        // 2^50 times the query and 2^-50 times the scale are the same scores.
        float[] small = Decode(group, Random(Keys * Dim, 2), Random(Keys * Dim, 3), 1);
        float[] large = Decode(group, Random(Keys * Dim, 2), Random(Keys * Dim, 3), 1125899906842624f);
        Assert.Equal(small, large);
    }

    private static float[] Decode(int group, Half[] key, Half[] value, float magnitude, int excluded = -1)
    {
        float[] query = Array.ConvertAll(Random(group * Dim, 1), x => (float)x * magnitude);
        for (int head = 0; head < group; head++) query[head * Dim] = MathF.Abs(query[head * Dim]) + magnitude;
        float[] output = new float[group * Dim];
        var options = new AttentionOptions { Scale = 0.125f / magnitude };
        bool[] mask = new bool[Keys];
        for (int j = 0; j < Keys; j++) mask[j] = j != excluded;
        var operands = new AttentionOperands();
        if (excluded >= 0) operands.BooleanMask = new ReadOnlyTensorSpan<bool>(mask, [1, Keys]);
        Attention.Forward<float, Half>(query, key, value, output, new AttentionShape(1, 1, Keys, group, 1, Dim), options, operands);
        return output;
    }

    private static Half[] Random(int count, int seed)
    {
        var random = new Random(seed);
        return Array.ConvertAll(new Half[count], _ => (Half)((random.NextDouble() * 2) - 1));
    }
}
