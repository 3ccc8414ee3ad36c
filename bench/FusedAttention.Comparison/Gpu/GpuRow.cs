namespace FusedAttention.Comparison.Gpu;

/// <summary>A row and what each contender made of it.</summary>
internal sealed class GpuRow(string name, IReadOnlyList<GpuResult> results)
{
    public string Name { get; } = name;

    public GpuLine First { get; } = results[0].Line;

    public IEnumerable<GpuLine> Lines => results.Select(r => r.Line);

    /// <summary>The fastest of our forms and layouts.</summary>
    public GpuLine? Ours => Timed(ours: true).Select(r => r.Line).MinBy(l => l.BurstUs);

    public GpuLine? BestPeer => Timed(ours: false).Select(r => r.Line).MinBy(l => l.BurstUs);

    /// <summary>How many times as fast as every peer ours is.</summary>
    public GpuRatio? Advantage => Ratio(Timed(ours: false));

    public GpuLine? Of(string contender) => Lines.FirstOrDefault(l => string.Equals(l.Contender, contender, StringComparison.Ordinal));

    public GpuLine? Form(string variant) => Lines.FirstOrDefault(l => l.IsOurs && string.Equals(l.Variant, variant, StringComparison.Ordinal));

    /// <summary>The row without its feature.</summary>
    public GpuLine? Plain(string variant) => Lines.FirstOrDefault(l => l.Baseline == true && string.Equals(l.Variant, variant, StringComparison.Ordinal));

    /// <summary>The row with an option of the library's own that says what the function says.</summary>
    public GpuLine? BuiltIn(string variant) => Lines.FirstOrDefault(l => string.Equals(l.Contender, GpuLine.OursBuiltIn, StringComparison.Ordinal) && string.Equals(l.Variant, variant, StringComparison.Ordinal));

    public GpuRatio? RatioTo(string peer) => Ratio(Timed(ours: false).Where(r => string.Equals(r.Line.Contender, peer, StringComparison.Ordinal)));

    /// <summary>Whether two lines were timed in turns, in one process.</summary>
    public bool AreOfOneRun(GpuLine a, GpuLine b) => results.Where(r => ReferenceEquals(r.Line, a) || ReferenceEquals(r.Line, b)).Select(r => r.Run).Distinct().Count() == 1;

    private GpuRatio? Ratio(IEnumerable<GpuResult> peers)
    {
        GpuResult[] theirs = [.. peers], ours = [.. Timed(ours: true)];
        if (theirs.Length == 0 || ours.Length == 0) return null;
        return new(
            theirs.Min(r => r.Line.BurstUs)!.Value / ours.Min(r => r.Line.BurstUs)!.Value,
            theirs.Min(r => r.Line.SustainedUs) / ours.Min(r => r.Line.SustainedUs),
            theirs.Concat(ours).Select(r => r.Run).Distinct().Count() == 1);
    }

    private IEnumerable<GpuResult> Timed(bool ours)
        => results.Where(r => r.Line is { IsTimed: true, BurstUs: not null } && (ours ? r.Line.IsOurs : !r.Line.Contender!.StartsWith(GpuLine.Ours, StringComparison.Ordinal)));
}

/// <summary>Of the best single launches, and of the card kept busy; whether all of it was timed in turns, in one process.</summary>
internal readonly record struct GpuRatio(double Burst, double? Sustained, bool IsOneRun)
{
    public bool IsAhead => Burst > 1 && Sustained is not <= 1;
}
