namespace FusedAttention.Cli.Commands;

/// <summary>
/// Progress by the clock, of work that cannot say how long it takes before it has done some of it. One call of a large shape takes seconds: a bar that moves with calls would stand still for them, and look like a program that hangs.
/// </summary>
/// <param name="title">What is done once the length is known.</param>
internal sealed class ClockProgress(string title)
{
    /// <summary>The bar ends when the work does, and not when it was expected to.</summary>
    private const double MostShare = 0.99;

    private long _expected;

    /// <summary>Says how long all of it will take, from its beginning. Any thread may.</summary>
    public void Expect(TimeSpan total) => Interlocked.Exchange(ref _expected, total.Ticks);

    /// <summary>What to show: text, and the share that is done, null while nobody knows.</summary>
    /// <param name="elapsed">Time since the beginning.</param>
    public (string Text, double? Share) At(TimeSpan elapsed)
    {
        long expected = Interlocked.Read(ref _expected);
        return expected == 0
            ? ($"{title}: warming up, {(long)elapsed.TotalSeconds} s", null)
            : (title, Math.Min(MostShare, (double)elapsed.Ticks / expected));
    }
}
