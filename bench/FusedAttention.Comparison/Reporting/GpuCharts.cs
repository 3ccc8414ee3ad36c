using FusedAttention.Comparison.Gpu;

namespace FusedAttention.Comparison.Reporting;

/// <summary>What measurements on a GPU show as charts: ours beside FlashAttention 2 and the best peer, a sheet for each element type.</summary>
internal static class GpuCharts
{
    private const int FewestLengths = 3; // of a line; shapes with fewer are in the tables

    public static IEnumerable<string> Types(GpuMeasurements measurements) => measurements.Results.Where(r => r.Line is { Suite: "prefill" or "decode", Type: not null }).Select(r => r.Line.Type!).Distinct(StringComparer.Ordinal);

    public static ChartSheet? Sheet(GpuMeasurements measurements, string type)
    {
        bool IsOfType(GpuRow row) => string.Equals(row.First.Type, type, StringComparison.Ordinal) && row.Ours is not null && row.BestPeer is not null;
        GpuRow[] prefill = [.. measurements.Rows("prefill").Where(IsOfType)], decode = [.. measurements.Rows("decode").Where(r => IsOfType(r) && r.First.Block is null)];
        ChartGroup[] groups =
        [
            new("Prefill", "TFLOP/s of allowed pairs against tokens, best launches", [.. Prefill(prefill)]),
            new("Decode, one query a sequence", "TB/s of keys and values, best launches: sequences, query heads/key and value heads, keys", decode.Length == 0 ? [] : [Decode(decode)]),
        ];
        groups = [.. groups.Where(g => g.Charts.Count > 0)];
        return groups.Length == 0 ? null : new($"{measurements.Runs[0].Gpu}, {type}", groups);
    }

    private static IEnumerable<LineChart> Prefill(GpuRow[] rows)
    {
        // A name without its length, which is the last word: the shape.
        var shapes = rows.GroupBy(r => r.Name[..r.Name.LastIndexOf(' ')], StringComparer.Ordinal).Where(g => g.Count() >= FewestLengths);
        foreach (IGrouping<string, GpuRow> shape in shapes.OrderBy(g => g.First().First.Dim).ThenByDescending(g => g.First().First.Mask, StringComparer.Ordinal))
        {
            yield return new()
            {
                Title = string.Join(' ', shape.Key.Split(' ').Skip(2)),
                XLabel = "tokens",
                Series = Series(rows, [.. shape], r => r.First.Keys!.Value, l => l.BurstTflops),
                FormatX = ReportCharts.Length,
                FormatY = v => $"{v:0}",
            };
        }
    }

    private static LineChart Decode(GpuRow[] rows) => new()
    {
        Title = string.Join(' ', rows[0].Name.Split(' ').Skip(1).Take(2)),
        XLabel = "",
        Series = Series(rows, rows, r => Array.IndexOf(rows, r), l => l.BurstTbps),
        Categories = [.. rows.Select(r => string.Join(' ', r.Name.Split(' ').Skip(3)))],
        FormatX = i => rows[(int)i].Name,
        FormatY = v => $"{v:0.0#}",
        Width = 740,
    };

    private static ChartSeries[] Series(GpuRow[] all, GpuRow[] rows, Func<GpuRow, double> x, Func<GpuLine, double?> y)
    {
        (double X, double Y)[] Points(Func<GpuRow, GpuLine?> choose) => [.. rows.Select(r => (X: x(r), Line: choose(r))).Where(p => p.Line is { IsTimed: true }).Select(p => (p.X, y(p.Line!) ?? 0))];
        string best = $"best peer ({string.Join(" or ", all.Select(r => r.BestPeer!.Contender).Distinct(StringComparer.Ordinal))})";
        return [new("FusedAttention", 0, Points(r => r.Ours)), new(GpuTables.FlashAttention, 1, Points(r => r.Of(GpuTables.FlashAttention))), new(best, 2, Points(r => r.BestPeer))];
    }
}
