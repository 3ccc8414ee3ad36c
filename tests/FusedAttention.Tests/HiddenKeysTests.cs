using Xunit;

namespace FusedAttention.Tests;

/// <summary>
/// What a row may not see, by position, window, mask, bias or length, cannot change a bit of it, whatever lies there: NaN and infinities in keys and values included. What a row sees comes out as IEEE
/// arithmetic has it.
/// </summary>
public sealed class HiddenKeysTests
{
    private const int CasesPerTest = 40;

    public static TheoryData<CpuInstructionSet, int> Cases()
    {
        var cases = new TheoryData<CpuInstructionSet, int>();
        foreach (CpuInstructionSet variant in Variants.Supported)
        {
            for (int block = 0; block < 5; block++) cases.Add(variant, 60_000 + (block * CasesPerTest));
        }

        return cases;
    }

    [Slow]
    [Theory]
    [MemberData(nameof(Cases))]
    public void Rows_have_the_bits_that_zeros_at_their_hidden_keys_give(CpuInstructionSet variant, int firstSeed)
    {
        int hidden = 0;
        for (int seed = firstSeed; seed < firstSeed + CasesPerTest; seed++)
        {
            var generator = new ProblemGenerator(seed);
            Problem problem = generator.NextProblem();
            problem = problem with { Execution = problem.Execution with { InstructionSet = variant } };
            if (!HiddenKeys.MayHide(problem)) continue;
            Arrangement arrangement = generator.NextArrangement();
            Victim[] victims = [.. Enumerable.Range(0, 4).SelectMany(_ => Victim.Choose(generator, problem))];
            hidden += HiddenKeys.AssertHidden(problem, victims, special => Caller.Run(special, arrangement));
        }

        Assert.True(hidden > 500, $"Only {hidden} rows had something hidden from them.");
    }

    /// <summary>A causal prefill whose last tokens hold NaN: the usual way in which it happens, at sizes of several tiles and chunks.</summary>
    [Slow]
    [Theory]
    [InlineData(1, 700)]
    [InlineData(3, 1300)]
    [InlineData(300, 300)]
    [InlineData(900, 900)]
    public void Padding_behind_a_mask_may_hold_anything(int queries, int keys)
    {
        foreach (AttentionElementType type in Elements.Wide)
        {
            foreach (bool rowInvariant in new[] { false, true })
            {
                var generator = new ProblemGenerator(queries + keys);
                Problem problem = generator.Fill(new Problem
                {
                    Name = "padding",
                    Form = CallForm.Dense,
                    QueryType = type,
                    KeyValueType = type,
                    Heads = 4,
                    KeyValueHeads = 2,
                    KeyDim = 40,
                    ValueDim = 24,
                    QueryLengths = [queries],
                    KeyLengths = [keys],
                    KeyCapacity = keys,
                    Query = [],
                    Key = [],
                    Value = [],
                    Options = new AttentionOptions { RowInvariant = rowInvariant },
                });
                bool[] mask = new bool[keys];
                for (int j = 0; j < keys; j++) mask[j] = j >= 3 && j < keys - 130 && j % 17 != 5;
                problem = problem with { Mask = new(mask, 1, 1, 1, keys) { Rank = 1 } };
                Victim[] victims = [.. Enumerable.Range(0, keys).Where(j => !mask[j]).Select(j => new Victim(0, 1, j))];
                CallResult expected = Caller.Run(HiddenKeys.With(problem, victims, _ => 0, _ => 0));
                Caller.Run(HiddenKeys.With(problem, victims, _ => float.NaN, n => n % 2 == 0 ? float.NaN : float.NegativeInfinity)).AssertSameBits(expected, problem.ToString());
            }
        }
    }
}
