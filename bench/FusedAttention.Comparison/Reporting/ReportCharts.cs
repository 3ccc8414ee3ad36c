using FusedAttention.Comparison.Cases;

namespace FusedAttention.Comparison.Reporting;

/// <summary>A row of small charts under one heading.</summary>
internal sealed record ChartGroup(string Title, string Note, IReadOnlyList<LineChart> Charts);

/// <summary>What a report shows as charts.</summary>
internal static class ReportCharts
{
    public static IEnumerable<ChartGroup> All(ComparisonReport report)
    {
        LineChart[] prefill = [.. Charts(report, CaseKind.Prefill)];
        if (prefill.Length > 0) yield return new("Prefill", "GFLOP/s against tokens. The dashed line is the peak of multiply-adds, measured in the same run.", prefill);
        LineChart[] decode = [.. Charts(report, CaseKind.Decode)];
        if (decode.Length > 0) yield return new("Decode", "GB/s of keys and values against the length of the context. The dashed line is the roofline: reading memory, or multiply-adds where heads share keys.", decode);
        yield return new("Memory", "Working memory of a prefill against tokens (8 heads, D128): ours beside the scores that are never stored.", [Memory(report)]);
    }

    private static IEnumerable<LineChart> Charts(ComparisonReport report, CaseKind kind)
    {
        bool isDecode = kind == CaseKind.Decode;
        var groups = report.Rows.Where(r => r.Case.Kind == kind).GroupBy(r => r.Case with { Queries = 0, Keys = 0 });
        foreach (IGrouping<AttentionCase, ReportRow> group in groups)
        {
            AttentionCase c = group.Key;
            ReportRow longest = group.MaxBy(r => r.Case.Keys)!;
            double rooflineSeconds = Math.Max(
                longest.FloatingPointOperations / report.Ceilings.GigaflopsPerSecond, longest.KeyValueBytes / report.Ceilings.GigabytesPerSecond) / 1e9;
            ChartSeries[] series =
            [
                .. report.Contenders.Select((contender, i) => new ChartSeries(contender.Name, i, [.. Points(group, contender.Name, isDecode)])).Where(s => s.Points.Count > 0),
            ];
            if (series.Length == 0) continue;
            yield return new()
            {
                Title = isDecode ? $"{c.TypeName}, {c.QueryHeads}/{c.KeyValueHeads} heads, D{c.Dim}" : $"{c.TypeName}, D{c.Dim}, {c.MaskName}",
                XLabel = isDecode ? "keys" : "tokens",
                Series = series,
                FormatX = Length,
                FormatY = isDecode ? v => $"{v:0.#} GB/s" : v => $"{v:0.#}",
                Ceiling = (isDecode ? longest.KeyValueBytes : longest.FloatingPointOperations) / rooflineSeconds / 1e9,
            };
        }
    }

    private static IEnumerable<(double X, double Y)> Points(IEnumerable<ReportRow> rows, string contender, bool isDecode)
    {
        foreach (ReportRow row in rows.OrderBy(r => r.Case.Keys))
        {
            ReportResult result = row.Results.First(r => string.Equals(r.Contender, contender, StringComparison.Ordinal));
            if (result.IsTimed) yield return (row.Case.Keys, isDecode ? result.GigabytesPerSecond : result.GigaflopsPerSecond);
        }
    }

    private static LineChart Memory(ComparisonReport report) => new()
    {
        Title = "Bytes beyond inputs and outputs",
        XLabel = "tokens",
        Series =
        [
            new("FusedAttention", 0, [.. report.Memory.Select(m => ((double)m.Length, (double)m.ScratchBytes))]),
            new("scores stored", 1, [.. report.Memory.Select(m => ((double)m.Length, (double)m.ScoreBytes))]),
        ],
        FormatX = Length,
        FormatY = ReportTables.Bytes,
        IsLogarithmic = true,
    };

    public static string Length(double length) => length >= 1024 ? $"{length / 1024:0.#}k" : $"{length:0}";
}
