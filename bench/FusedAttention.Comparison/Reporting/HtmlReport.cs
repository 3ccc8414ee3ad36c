using System.Net;
using System.Text;

namespace FusedAttention.Comparison.Reporting;

/// <summary>A report as one HTML page that needs nothing else: no script, no fonts, no other file. Light or dark as the reader's system is.</summary>
internal static class HtmlReport
{
    private static readonly string Style = $$"""
        :root { color-scheme: light dark; {{Palette.Light.Variables}} }
        @media (prefers-color-scheme: dark) { :root { {{Palette.Dark.Variables}} } }
        body { margin: 0 auto; max-width: 1180px; padding: 24px; background: var(--page); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
        h1 { font-size: 26px; margin: 0 0 8px; } h2 { font-size: 19px; margin: 36px 0 4px; } p, li { color: var(--soft); margin: 4px 0; } p.summary { color: var(--ink); font-size: 17px; }
        .charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(340px, 1fr)); gap: 14px; margin-top: 12px; }
        .charts svg { background: var(--panel); border: 1px solid var(--line); border-radius: 6px; width: 100%; height: auto; }
        .legend { display: flex; flex-wrap: wrap; gap: 4px 18px; margin: 10px 0; } .legend span::before { content: ""; display: inline-block; width: 18px; height: 4px; border-radius: 2px; margin-right: 6px; vertical-align: middle; background: var(--colour); }
        svg text { fill: var(--soft); font: 11px system-ui, sans-serif; } svg text.title { fill: var(--ink); font-size: 13px; font-weight: 600; } .end { text-anchor: end; } .middle { text-anchor: middle; }
        .grid { stroke: var(--line); } .ceiling { stroke: var(--soft); stroke-dasharray: 5 4; stroke-width: 1.5; }
        svg g { color: var(--colour); } svg polyline { fill: none; stroke: currentColor; stroke-width: 1.75; } svg circle { fill: currentColor; } svg g.c0 polyline { stroke-width: 3; }
        .c0 { --colour: var(--c0); } .c1 { --colour: var(--c1); } .c2 { --colour: var(--c2); } .c3 { --colour: var(--c3); } .c4 { --colour: var(--c4); } .c5 { --colour: var(--c5); } .c6 { --colour: var(--c6); }
        .table { overflow-x: auto; margin-top: 10px; } table { border-collapse: collapse; font-size: 13px; font-variant-numeric: tabular-nums; }
        th, td { padding: 4px 10px; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap; } th:first-child, td:first-child { text-align: left; } th { vertical-align: bottom; white-space: normal; }
        td.best { font-weight: 650; } td.faint { color: var(--soft); } td.wrong { color: var(--wrong); font-weight: 650; }
        """;

    public static string Write(ComparisonReport report)
    {
        var page = new StringBuilder();
        page.Append("<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n");
        page.Append($"<title>FusedAttention and its peers: {Encode(report.Machine.Processor)}</title>\n<style>\n{Style}\n</style>\n</head>\n<body>\n");
        page.Append("<h1>FusedAttention and its peers</h1>\n");
        page.Append($"<p class=\"summary\">{Encode(ReportTables.Summary(report))}</p>\n<ul>\n");
        foreach (string fact in ReportTables.Facts(report)) page.Append($"<li>{Encode(fact)}</li>\n");
        page.Append("</ul>\n");
        foreach (ChartGroup group in ReportCharts.All(report)) Write(page, group);
        foreach (ReportTable table in ReportTables.All(report)) Write(page, table);
        return page.Append("</body>\n</html>\n").ToString().ReplaceLineEndings("\n");
    }

    private static void Write(StringBuilder page, ChartGroup group)
    {
        page.Append($"<h2>{Encode(group.Title)}</h2>\n<p>{Encode(group.Note)}</p>\n<div class=\"legend\">");
        foreach (ChartSeries series in group.Charts.SelectMany(c => c.Series).DistinctBy(s => s.Name, StringComparer.Ordinal).OrderBy(s => s.Colour))
            page.Append($"<span class=\"c{series.Colour}\">{Encode(series.Name)}</span>");
        page.Append("</div>\n<div class=\"charts\">\n");
        foreach (LineChart chart in group.Charts) page.Append(chart.Render());
        page.Append("</div>\n");
    }

    private static void Write(StringBuilder page, ReportTable table)
    {
        page.Append($"<h2>{Encode(table.Title)}</h2>\n<p>{Encode(table.Note)}</p>\n<div class=\"table\"><table>\n<thead><tr>");
        foreach (string heading in table.Headings) page.Append($"<th>{Encode(heading)}</th>");
        page.Append("</tr></thead>\n<tbody>\n");
        foreach (IReadOnlyList<Cell> row in table.Rows)
        {
            page.Append("<tr>");
            foreach (Cell cell in row) page.Append(cell.Style == CellStyle.Plain ? "<td>" : $"<td class=\"{cell.Style.ToString().ToLowerInvariant()}\">").Append(Encode(cell.Text)).Append("</td>");
            page.Append("</tr>\n");
        }

        page.Append("</tbody>\n</table></div>\n");
    }

    private static string Encode(string text) => WebUtility.HtmlEncode(text);
}
