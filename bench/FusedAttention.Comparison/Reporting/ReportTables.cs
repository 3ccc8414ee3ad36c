using System.Globalization;
using FusedAttention.Comparison.Cases;

namespace FusedAttention.Comparison.Reporting;

internal enum CellStyle
{
    Plain,

    /// <summary>The fastest of its row.</summary>
    Best,

    /// <summary>Nothing to show.</summary>
    Faint,

    /// <summary>A result that cannot be right.</summary>
    Wrong,
}

internal readonly record struct Cell(string Text, CellStyle Style = CellStyle.Plain)
{
    public static implicit operator Cell(string text) => new(text);
}

/// <summary>A table before it is Markdown or HTML; the first column is text, the others are numbers.</summary>
internal sealed record ReportTable(string Title, string Note, IReadOnlyList<string> Headings, IReadOnlyList<IReadOnlyList<Cell>> Rows);

/// <summary>What a report shows as tables, and in which words.</summary>
internal static class ReportTables
{
    public static IEnumerable<ReportTable> All(ComparisonReport report)
    {
        yield return Ceilings(report);
        if (Rates(report, CaseKind.Prefill) is ReportTable prefill) yield return prefill;
        if (Rates(report, CaseKind.Decode) is ReportTable decode) yield return decode;
        yield return Errors(report);
        yield return Memory(report);
    }

    /// <summary>One sentence a line: what ran where, and how it was disturbed.</summary>
    public static IEnumerable<string> Facts(ComparisonReport report)
    {
        yield return $"{report.Machine.Processor}, {report.Machine.LogicalProcessors} logical processors, {report.Machine.MemoryGigabytes:0.#} GB; {report.Machine.OperatingSystem}; {report.Machine.Runtime}.";
        yield return string.Join("; ", report.Contenders.Select(c => (c.IsOurs ? c.Name : c.Version.Split(',')[0], c.Version)).Distinct().Select(c => c.Version.StartsWith(c.Item1, StringComparison.Ordinal) ? c.Version : $"{c.Item1} {c.Version}")) + ".";
        yield return $"{Count(report.Threads, "thread")} each, {report.SecondsEach:0.##} s for each contender in each row, in turns of short trials; rates are of the best trial. {report.StartedUtc:yyyy-MM-dd HH:mm} UTC, {report.Minutes:0.#} minutes.";
        string foreign = report.Load.ForeignProcessors is double others ? $"{others:0.00} processors used by others during the timings" : "use by others unknown";
        yield return $"Load average before {report.Load.Before ?? "unknown"}, after {report.Load.After ?? "unknown"}; {foreign}.";
        yield return string.Create(CultureInfo.InvariantCulture, $"On your machine, in a clone of the repository: bash bench/compare.sh --seconds {report.SecondsEach:0.##} --threads {report.Threads}. bench/README.md says how it measures.");
    }

    /// <summary>How often we are ahead, without leaving out where not.</summary>
    public static string Summary(ComparisonReport report)
    {
        double[] advantages = [.. report.Rows.Select(r => r.Advantage).OfType<double>().Order()];
        if (advantages.Length == 0) return "No row has a peer to compare with.";
        int ahead = advantages.Count(a => a > 1);
        return $"FusedAttention is ahead of every peer in {ahead} of {Count(advantages.Length, "row")}: {advantages[0]:0.00}x to {advantages[^1]:0.00}x the best peer, median {advantages[advantages.Length / 2]:0.00}x.";
    }

    public static string Bytes(double bytes) => bytes switch
    {
        >= 1 << 30 => $"{bytes / (1 << 30):0.#} GiB",
        >= 1 << 20 => $"{bytes / (1 << 20):0.#} MiB",
        _ => $"{bytes / (1 << 10):0.#} KiB",
    };

    private static string Count(int count, string what) => $"{count} {what}{(count == 1 ? "" : "s")}";

    private static ReportTable Ceilings(ComparisonReport report)
    {
        int[] threads = [.. report.Reads.Select(r => r.Threads)];
        var rows = new List<IReadOnlyList<Cell>>();
        foreach (IGrouping<CpuInstructionSet, MultiplyAddCeiling> set in report.MultiplyAdds.GroupBy(m => m.InstructionSet))
            rows.Add([$"fused multiply-adds, {set.Key}, GFLOP/s", .. set.Select(m => new Cell($"{m.GigaflopsPerSecond:0.0}"))]);
        rows.Add(["reading memory, GB/s", .. report.Reads.Select(r => new Cell($"{r.GigabytesPerSecond:0.0}"))]);
        return new(
            "Ceilings", $"Measured in this run. Shares below are of the roofline of {report.Ceilings.InstructionSet} and {Count(report.Threads, "thread")}: of multiply-adds or of reading keys and values once, whichever takes longer.",
            ["", .. threads.Select(t => Count(t, "thread"))], rows);
    }

    private static ReportTable? Rates(ComparisonReport report, CaseKind kind)
    {
        ReportRow[] rows = [.. report.Rows.Where(r => r.Case.Kind == kind)];
        if (rows.Length == 0) return null;
        bool isDecode = kind == CaseKind.Decode;
        return new(
            isDecode ? "Decode: one query, GB/s of keys and values" : "Prefill: GFLOP/s",
            isDecode ? "Keys and values counted once. In brackets the share of the roofline. Last, the processors that other programs kept busy meanwhile." : "Only what is allowed counts: half of the products if causal. In brackets the share of the roofline. Last, the processors that other programs kept busy meanwhile.",
            ["case", .. report.Contenders.Select(c => c.Name), "ours / best peer", "used by others"],
            [.. rows.Select(row => (IReadOnlyList<Cell>)[
                $"{CaseText(row.Case)}",
                .. row.Results.Select(result => RateCell(row, result, isDecode)),
                row.Advantage is double advantage ? new($"{advantage:0.00}x", advantage > 1 ? CellStyle.Best : CellStyle.Plain) : new("-", CellStyle.Faint),
                row.ForeignProcessors is double foreign ? new($"{foreign:0.00}", CellStyle.Faint) : new("-", CellStyle.Faint)])]);
    }

    private static string CaseText(AttentionCase c) => c.Kind == CaseKind.Prefill
        ? $"{c.TypeName} D{c.Dim} {c.MaskName} {c.Queries}"
        : $"{c.TypeName} {c.QueryHeads}/{c.KeyValueHeads} heads D{c.Dim}, {c.Keys} keys";

    private static Cell RateCell(ReportRow row, ReportResult result, bool isDecode)
    {
        if (result.Status == ResultStatus.NotOffered) return new("-", CellStyle.Faint);
        if (result.Status == ResultStatus.Mismatch) return new("wrong output", CellStyle.Wrong);
        double rate = isDecode ? result.GigabytesPerSecond : result.GigaflopsPerSecond;
        bool isBest = row.Results.Where(r => r.IsTimed).Min(r => r.BestMilliseconds) >= result.BestMilliseconds;
        return new($"{rate:0.0} ({result.ShareOfCeiling * 100:0} %)", isBest ? CellStyle.Best : CellStyle.Plain);
    }

    private static ReportTable Errors(ComparisonReport report) => new(
        "Agreement: largest absolute difference",
        "Checked before timing: ours against double precision on sampled rows, every peer against ours on the whole output. What differs by more than rounding is not timed.",
        ["case", .. report.Contenders.Select(c => c.Name)],
        [.. report.Rows.Select(row => (IReadOnlyList<Cell>)[
            (row.Case.Kind == CaseKind.Prefill ? "prefill " : "decode ") + CaseText(row.Case),
            .. row.Results.Select(r => r.IsOurs ? Error(row.ErrorAgainstDouble, r.Status) : Error(r.MaxAbsoluteError, r.Status))])]);

    private static Cell Error(double? error, ResultStatus status)
        => error is double number ? new($"{number:0.0e0}", status == ResultStatus.Mismatch ? CellStyle.Wrong : CellStyle.Plain) : new("-", CellStyle.Faint);

    private static ReportTable Memory(ComparisonReport report) => new(
        "Memory beyond inputs and outputs, prefill fp32, 8 heads, D128",
        $"What the scores of all heads take when they are stored (computed), and all working memory of ours with {Count(report.Threads, "thread")}.",
        ["tokens", "scores stored", "FusedAttention"],
        [.. report.Memory.Select(m => (IReadOnlyList<Cell>)[$"{m.Length}", Bytes(m.ScoreBytes), Bytes(m.ScratchBytes)])]);
}
