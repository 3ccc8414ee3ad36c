using FusedAttention.Comparison.Cases;

namespace FusedAttention.Comparison.Reporting;

/// <summary>Every row of a report as bars: ours, and of each family of peers the one that is fastest in that row.</summary>
internal static class ReportBars
{
    /// <summary>The library that a peer is an operator or a layout of: its name's first word.</summary>
    private static string Family(string contender) => contender.Split(' ')[0];

    public static BarSheet Sheet(ComparisonReport report)
    {
        string[] families = [.. report.Contenders.Where(c => !c.IsOurs).Select(c => Family(c.Name)).Distinct(StringComparer.Ordinal)];
        string[] names = [.. families.Select(f => $"best of {report.Contenders.First(c => !c.IsOurs && Family(c.Name).Equals(f, StringComparison.Ordinal)).Version.Split(',')[0]}")];
        BarPanel[] panels =
        [
            Panel(report, families, CaseKind.Prefill, "Prefill", "GFLOP/s of allowed pairs; right, ours over the best peer"),
            Panel(report, families, CaseKind.Decode, "Decode, one query", "GB/s of keys and values; right, ours over the best peer"),
        ];
        return new(
            $"{report.Machine.Processor}, {report.InstructionSet}, {report.Threads} thread{(report.Threads == 1 ? "" : "s")}",
            [report.Contenders.First(c => c.IsOurs).Name, .. names],
            [.. panels.Where(p => p.Rows.Count > 0)]);
    }

    private static BarPanel Panel(ComparisonReport report, string[] families, CaseKind kind, string title, string note) => new(
        title, note,
        [.. report.Rows.Where(r => r.Case.Kind == kind && r.Ours is not null).Select(row => new BarRow(Name(row.Case), [.. Bars(row, families)], row.Advantage is double factor ? $"{factor:0.00}x" : "no peer", row.Advantage is null or >= 1))]);

    private static string Name(AttentionCase c) => c.Kind == CaseKind.Prefill
        ? $"{c.TypeName} D{c.Dim} {c.MaskName} {ReportCharts.Length(c.Keys)}"
        : $"{c.TypeName} D{c.Dim} {c.QueryHeads}/{c.KeyValueHeads} {ReportCharts.Length(c.Keys)}";

    private static IEnumerable<Bar> Bars(ReportRow row, string[] families)
    {
        yield return Of(row, 0, row.Ours!);
        for (int i = 0; i < families.Length; i++)
        {
            if (row.Results.Where(r => !r.IsOurs && r.IsTimed && Family(r.Contender).Equals(families[i], StringComparison.Ordinal)).MinBy(r => r.BestMilliseconds) is ReportResult best) yield return Of(row, i + 1, best);
        }
    }

    private static Bar Of(ReportRow row, int colour, ReportResult result)
        => row.Case.Kind == CaseKind.Prefill
            ? new(colour, result.GigaflopsPerSecond, $"{result.Contender}: {result.GigaflopsPerSecond:0.#} GFLOP/s")
            : new(colour, result.GigabytesPerSecond, $"{result.Contender}: {result.GigabytesPerSecond:0.#} GB/s");
}
