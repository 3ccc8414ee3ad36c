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
