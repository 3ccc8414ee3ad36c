namespace FusedAttention.Testing;

/// <summary>Scales of 8-bit keys and values at places that rows may not see.</summary>
internal static class HiddenScales
{
    /// <summary>The problem with a scale of its own for each key and head, so that a victim's is nobody else's.</summary>
    public static Problem OfTokens(ProblemGenerator generator, Problem problem) => problem with
    {
        KeyScalePattern = ScalePattern.PerTokenAndHead,
        ValueScalePattern = ScalePattern.PerTokenAndHead,
        KeyScales = [.. problem.KeyLengths.Select(n => generator.Numbers(n * problem.KeyValueHeads, 0.01f, AttentionElementType.Float32).Select(Math.Abs).ToArray())],
        ValueScales = [.. problem.KeyLengths.Select(n => generator.Numbers(n * problem.KeyValueHeads, 0.01f, AttentionElementType.Float32).Select(Math.Abs).ToArray())],
    };

    /// <summary>Zeros at the places of victims, with scales of 1.</summary>
    public static Problem Zeros(Problem problem, Victim[] victims) => With(HiddenKeys.With(problem, victims, static _ => 0, static _ => 0), victims, static _ => 1, static _ => 1);

    /// <summary>The largest codes at the places of victims, NaN where the type has it, with scales in turn, those of values one further on.</summary>
    public static Problem Poisoned(Problem problem, Victim[] victims, params float[] scales)
    {
        Func<int, float> code = problem.KeyValueType == AttentionElementType.Float8E4M3 ? static n => n % 2 == 0 ? float.NaN : 448 : static n => n % 2 == 0 ? -128 : 127;
        return With(HiddenKeys.With(problem, victims, code, code), victims, n => scales[n % scales.Length], n => scales[(n + 1) % scales.Length]);
    }

    /// <summary>Other scales at the places of victims; in blocks, at all of the row's.</summary>
    public static Problem With(Problem problem, Victim[] victims, Func<int, float> key, Func<int, float> value)
    {
        float[][] keys = [.. problem.KeyScales!.Select(k => (float[])k.Clone())];
        float[][] values = [.. problem.ValueScales!.Select(v => (float[])v.Clone())];
        int n = 0;
        foreach (Victim victim in victims)
        {
            int token = (victim.Key * problem.KeyValueHeads) + victim.KeyValueHead, tokens = problem.KeyLengths[victim.Sequence] * problem.KeyValueHeads;
            (int keyWidth, int valueWidth) = (keys[victim.Sequence].Length / tokens, values[victim.Sequence].Length / tokens);
            keys[victim.Sequence].AsSpan(token * keyWidth, keyWidth).Fill(key(n));
            values[victim.Sequence].AsSpan(token * valueWidth, valueWidth).Fill(value(n++));
        }

        return problem with { KeyScales = keys, ValueScales = values };
    }
}
