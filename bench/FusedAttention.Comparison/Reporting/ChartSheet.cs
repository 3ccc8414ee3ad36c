using System.Net;
using System.Text;

namespace FusedAttention.Comparison.Reporting;

/// <summary>Groups of charts as one SVG file that needs nothing else, for pages that cannot hold a style sheet. Light or dark as the reader's system is, without variables: not every renderer knows them.</summary>
internal sealed record ChartSheet(string Title, IReadOnlyList<ChartGroup> Groups)
{
    private const double Width = 772;
    private const double Margin = 16;
    private const double Gap = 20;
    private const double Swatch = 18;

    public string Render()
    {
        var body = new StringBuilder();
        body.Append($"<text class=\"head\" x=\"{Margin}\" y=\"30\">{Encode(Title)}</text>\n");
        double y = 44;
        foreach (ChartGroup group in Groups) y = Draw(body, group, y);
        return $"<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {Width} {y}\" width=\"{Width}\" height=\"{y}\" role=\"img\" aria-label=\"{Encode(Title)}\">\n<style>\n{Style}\n</style>\n"
            + $"<rect class=\"page\" width=\"{Width}\" height=\"{y}\"/>\n{body}</svg>\n";
    }

    private static double Draw(StringBuilder body, ChartGroup group, double y)
    {
        body.Append($"<text class=\"title\" x=\"{Margin}\" y=\"{y + 18}\">{Encode(group.Title)}</text>\n<text x=\"{Margin}\" y=\"{y + 36}\">{Encode(group.Note)}</text>\n");
        double x = Margin;
        foreach (ChartSeries series in group.Charts.SelectMany(c => c.Series).DistinctBy(s => s.Name, StringComparer.Ordinal).OrderBy(s => s.Colour))
        {
            body.Append($"<g class=\"c{series.Colour}\"><rect x=\"{x}\" y=\"{y + 48}\" width=\"{Swatch}\" height=\"4\" rx=\"2\"/></g><text x=\"{x + Swatch + 6}\" y=\"{y + 54}\">{Encode(series.Name)}</text>\n");
            x += Swatch + 30 + (series.Name.Length * 6); // no renderer is asked how wide a text of 11 pixels is
        }

        (x, y) = (Margin, y + 68);
        double bottom = y;
        foreach (LineChart chart in group.Charts)
        {
            if (x > Margin && x + chart.Width > Width - Margin) (x, y) = (Margin, bottom + Gap);
            body.Append($"<rect class=\"panel\" x=\"{x}\" y=\"{y}\" width=\"{chart.Width}\" height=\"{LineChart.Height}\" rx=\"6\"/>\n");
            body.Append(chart.Render($" x=\"{x}\" y=\"{y}\" width=\"{chart.Width}\" height=\"{LineChart.Height}\""));
            bottom = y + LineChart.Height;
            x += chart.Width + Gap;
        }

        return bottom + Gap;
    }

    private static string Style => $$"""
        text { font: 11px system-ui, sans-serif; } .title { font-size: 13px; font-weight: 600; } .head { font-size: 17px; font-weight: 600; } .end { text-anchor: end; } .middle { text-anchor: middle; }
        polyline { fill: none; stroke: currentColor; stroke-width: 1.75; } circle, g rect { fill: currentColor; } .c0 polyline { stroke-width: 3; } .ceiling { stroke-dasharray: 5 4; stroke-width: 1.5; }
        {{Colours(Palette.Light)}}
        @media (prefers-color-scheme: dark) {
        {{Colours(Palette.Dark)}}
        }
        """;

    private static string Colours(Palette p)
        => $"text {{ fill: {p.Soft}; }} .title, .head {{ fill: {p.Ink}; }} .page {{ fill: {p.Page}; }} .panel {{ fill: {p.Panel}; stroke: {p.Line}; }} .grid {{ stroke: {p.Line}; }} .ceiling {{ stroke: {p.Soft}; }} "
            + string.Join(' ', p.Contenders.Select((colour, i) => $".c{i} {{ color: {colour}; }}"));

    private static string Encode(string text) => WebUtility.HtmlEncode(text);
}
