using FusedAttention.Cuda.Ptx;
using Xunit;

namespace FusedAttention.Cuda.Tests.Ptx;

public sealed class ReciprocalTests
{
    /// <summary>At multiples and beside them, where a quotient changes, and at the ends.</summary>
    [Fact]
    public void Quotients_are_those_of_a_division()
    {
        var random = new Random(5);
        foreach (int divisor in Enumerable.Range(1, 300).Concat(Enumerable.Range(0, 300).Select(_ => random.Next(1, int.MaxValue))).Append(int.MaxValue).Append(int.MaxValue - 1).Append(1 << 30))
        {
            Reciprocal reciprocal = Reciprocal.Of(divisor);
            foreach (long multiple in (long[])[0, 1, 2, random.NextInt64((int.MaxValue / divisor) + 1L), int.MaxValue / divisor])
            {
                for (long number = Math.Max((multiple * divisor) - 2, 0); number <= Math.Min((multiple * divisor) + 2, int.MaxValue); number++)
                    if (reciprocal.Divide((int)number) != number / divisor) Assert.Fail($"{number} / {divisor} is {number / divisor} and not {reciprocal.Divide((int)number)}.");
            }

            Assert.Equal(int.MaxValue / divisor, reciprocal.Divide(int.MaxValue));
        }

        Assert.Throws<ArgumentOutOfRangeException>(() => Reciprocal.Of(0));
    }
}
