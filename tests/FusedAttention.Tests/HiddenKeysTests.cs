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
            if (problem.Mask is null && problem.Bias is null && !problem.Options.Mask.IsCausal && problem.Options.Mask.WindowLeft is null && problem.Options.Mask.WindowRight is null) continue;
            Arrangement arrangement = generator.NextArrangement();
            Victim[] victims = [.. Enumerable.Range(0, 4).SelectMany(_ => Victim.Choose(generator, problem))];
            Problem zeros = With(problem, victims, _ => 0, _ => 0);
            CallResult expected = Caller.Run(zeros, arrangement);
            float[] specials = [float.NaN, float.PositiveInfinity, float.NegativeInfinity];
            Problem poisoned = With(problem, victims, n => specials[n % 3], n => specials[(n / 3) % 3]);
            hidden += AssertHiddenBits(expected, Caller.Run(poisoned, arrangement), poisoned, victims);

            // Infinities in values alone: rows that see one show it in this column, and nothing else is changed.
            Problem infinite = With(problem, victims, _ => 0, _ => float.PositiveInfinity);
            CallResult actual = Caller.Run(infinite, arrangement);
            AssertHiddenBits(expected, actual, infinite, victims);
            AssertSeenInfinities(actual, infinite, victims);
        }

        Assert.True(hidden > 500, $"Only {hidden} rows had something hidden from them.");
    }

    /// <summary>A causal prefill whose last tokens hold NaN: the usual way in which it happens, at sizes of several tiles and chunks.</summary>
    [Theory]
    [InlineData(1, 700)]
    [InlineData(3, 1300)]
    [InlineData(300, 300)]
    [InlineData(900, 900)]
    public void Padding_behind_a_mask_may_hold_anything(int queries, int keys)
    {
        foreach (AttentionElementType type in Enum.GetValues<AttentionElementType>())
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
                CallResult expected = Caller.Run(With(problem, victims, _ => 0, _ => 0));
                Caller.Run(With(problem, victims, _ => float.NaN, n => n % 2 == 0 ? float.NaN : float.NegativeInfinity)).AssertSameBits(expected, problem.ToString());
            }
        }
    }

    private static Problem With(Problem problem, Victim[] victims, Func<int, float> key, Func<int, float> value)
    {
        float[][] keys = [.. problem.Key.Select(k => (float[])k.Clone())];
        float[][] values = [.. problem.Value.Select(v => (float[])v.Clone())];
        int n = 0;
        foreach (Victim victim in victims)
        {
            int token = (victim.Key * problem.KeyValueHeads) + victim.KeyValueHead;
            keys[victim.Sequence].AsSpan(token * problem.KeyDim, problem.KeyDim).Fill(key(n));
            values[victim.Sequence].AsSpan(token * problem.ValueDim, problem.ValueDim).Fill(value(n++));
        }

        return problem with { Key = keys, Value = values };
    }

    /// <returns>How many rows had a victim hidden from them and saw none.</returns>
    private static int AssertHiddenBits(CallResult expected, CallResult actual, Problem problem, Victim[] victims)
    {
        int rows = 0;
        ForEachRow(problem, (s, i, h) =>
        {
            if (victims.Any(v => v.IsSeenBy(problem, s, i, h)) || !victims.Any(v => v.Sequence == s)) return;
            rows++;
            int row = ((i * problem.Heads) + h) * problem.ValueDim;
            CallResult.AssertSameBits(expected.Output[s].AsSpan(row, problem.ValueDim), actual.Output[s].AsSpan(row, problem.ValueDim), $"sequence {s}, query {i}, head {h} of {problem}");
            if (expected.LogSumExp is null) return;
            int index = (h * problem.QueryLengths[s]) + i;
            CallResult.AssertSameBits(expected.LogSumExp[s].AsSpan(index, 1), actual.LogSumExp![s].AsSpan(index, 1), $"log-sum-exp of sequence {s}, query {i}, head {h} of {problem}");
        });
        return rows;
    }

    private static void AssertSeenInfinities(CallResult actual, Problem problem, Victim[] victims) => ForEachRow(problem, (s, i, h) =>
    {
        if (!victims.Any(v => v.IsSeenBy(problem, s, i, h))) return;
        ReadOnlySpan<float> row = actual.Output[s].AsSpan(((i * problem.Heads) + h) * problem.ValueDim, problem.ValueDim);

        // NaN where the key's weight is 0 in double precision too.
        foreach (float x in row) Assert.True(float.IsPositiveInfinity(x) || float.IsNaN(x), $"sequence {s}, query {i}, head {h} has {x} of {problem}");
    });

    private static void ForEachRow(Problem problem, Action<int, int, int> row)
    {
        for (int s = 0; s < problem.Sequences; s++)
        {
            for (int i = 0; i < problem.QueryLengths[s]; i++)
            {
                for (int h = 0; h < problem.Heads; h++) row(s, i, h);
            }
        }
    }

    /// <summary>A key and its value.</summary>
    private sealed record Victim(int Sequence, int KeyValueHead, int Key)
    {
        public static IEnumerable<Victim> Choose(ProblemGenerator generator, Problem problem)
        {
            int sequence = generator.Next(0, problem.Sequences);
            if (problem.KeyLengths[sequence] == 0) yield break;
            yield return new(sequence, generator.Next(0, problem.KeyValueHeads), generator.Next(0, problem.KeyLengths[sequence]));
        }

        public bool IsSeenBy(Problem problem, int sequence, int query, int head)
        {
            if (sequence != Sequence || head / (problem.Heads / problem.KeyValueHeads) != KeyValueHead) return false;
            (int from, int to) = problem.KeyRange(sequence, query);
            int row = problem.Form == CallForm.Dense ? query : problem.FirstQuery(sequence) + query;
            int batch = problem.Form == CallForm.Dense ? sequence : 0;
            return Key >= from && Key < to
                && (problem.Mask is null || problem.Mask.At(batch, head, row, Key))
                && (problem.Bias is null || !float.IsNegativeInfinity(problem.Bias.At(batch, head, row, Key)));
        }
    }
}
