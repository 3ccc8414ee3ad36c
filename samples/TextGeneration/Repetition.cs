namespace FusedAttention.Samples.TextGeneration;

/// <summary>The loop that a text ends in: a small model that always takes the likeliest token finds one sooner or later, and looks as if it were broken.</summary>
/// <param name="Period">Tokens until the text begins again.</param>
/// <param name="Count">How many there are of the repeated text, at the end of the whole.</param>
internal readonly record struct Repetition(int Period, int Count)
{
    private const int LongestPeriod = 512;

    /// <summary>How often something is said before it counts: twice is a figure of speech.</summary>
    private const int LeastTimes = 3;

    public static Repetition? Of(ReadOnlySpan<int> tokens)
    {
        for (int period = 1; period <= Math.Min(LongestPeriod, tokens.Length / LeastTimes); period++)
        {
            int equal = tokens.Length - period - 1;
            while (equal >= 0 && tokens[equal] == tokens[equal + period]) equal--;
            int count = tokens.Length - 1 - equal;
            if (count >= LeastTimes * period) return new(period, count);
        }

        return null;
    }

    public override string ToString() => $"repeats itself: its last {Count} tokens are {Period} over and over";
}
