using Xunit;

namespace FusedAttention.Testing;

/// <summary>Puts anything into keys and values, and looks at the rows that may not see them.</summary>
internal static class HiddenKeys
{
    private static readonly float[] Specials = [float.NaN, float.PositiveInfinity, float.NegativeInfinity];

    /// <summary>Whether an option or an operand may hide a key from some row.</summary>
    public static bool MayHide(Problem problem) =>
        problem.Options.MaskFunction is not null || problem.Options.ScoreFunction is not null || problem.Mask is not null || problem.Bias is not null || problem.Options.Mask.IsCausal || problem.Options.Mask.WindowLeft is not null || problem.Options.Mask.WindowRight is not null;

    /// <summary>The problem with other numbers in the keys and values of victims; n counts them.</summary>
    public static Problem With(Problem problem, Victim[] victims, Func<int, float> key, Func<int, float> value)
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

    /// <summary>
    /// What a problem's rows show of its victims: nothing where they are hidden, by NaN and infinities in keys and values and by infinite values alone; and the infinite value where they are seen.
    /// </summary>
    /// <param name="problem">The problem.</param>
    /// <param name="victims">Its victims.</param>
    /// <param name="run">Computes it; null where a kernel does not take it.</param>
    /// <returns>How many rows had a victim hidden from them and saw none.</returns>
    public static int AssertHidden(Problem problem, Victim[] victims, Func<Problem, CallResult?> run)
    {
        if (run(With(problem, victims, _ => 0, _ => 0)) is not { } expected) return 0;
        Problem poisoned = With(problem, victims, n => Specials[n % 3], n => Specials[(n / 3) % 3]);
        int hidden = AssertHiddenBits(expected, run(poisoned)!, poisoned, victims);
        Problem infinite = With(problem, victims, _ => 0, _ => float.PositiveInfinity);
        CallResult actual = run(infinite)!;
        AssertHiddenBits(expected, actual, infinite, victims);
        AssertSeenInfinities(actual, infinite, victims);
        return hidden;
    }

    /// <summary>Rows that see no victim have the bits that they have with zeros there.</summary>
    /// <returns>How many rows had a victim hidden from them and saw none.</returns>
    public static int AssertHiddenBits(CallResult expected, CallResult actual, Problem problem, Victim[] victims)
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

    /// <summary>Rows that see a victim whose value is positive infinity show it.</summary>
    public static void AssertSeenInfinities(CallResult actual, Problem problem, Victim[] victims) => ForEachRow(problem, (s, i, h) =>
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
}

/// <summary>A key and its value, of which some rows may not see anything.</summary>
internal sealed record Victim(int Sequence, int KeyValueHead, int Key)
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
        double bias = problem.Bias?.At(batch, head, row, Key) ?? 0;
        long position = query + problem.Offset(sequence);
        return Key >= from && Key < to
            && (problem.Mask is null || problem.Mask.At(batch, head, row, Key))
            && problem.Options.MaskFunction?.Evaluate(sequence, head, query, position, Key) != false
            && !double.IsNegativeInfinity(problem.Options.ScoreFunction?.Evaluate(bias, sequence, head, query, position, Key) ?? bias);
    }
}
