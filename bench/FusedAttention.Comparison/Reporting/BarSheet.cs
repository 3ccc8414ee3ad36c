using System.Net;
using System.Text;

namespace FusedAttention.Comparison.Reporting;

/// <summary>A bar: whose, and how long.</summary>
/// <param name="Colour">The contender's place among those of the sheet.</param>
/// <param name="Value">In the panel's unit.</param>
/// <param name="Hint">Shown on pointing at it.</param>
internal sealed record Bar(int Colour, double Value, string Hint);

/// <summary>Bars of one case, and how many times as fast as the best other the first is.</summary>
internal sealed record BarRow(string Name, IReadOnlyList<Bar> Bars, string Factor, bool IsAhead);

/// <summary>Cases of one unit, on one scale.</summary>
internal sealed record BarPanel(string Title, string Note, IReadOnlyList<BarRow> Rows);

/// <summary>Panels of horizontal bars side by side as one SVG file, with a factor at the end of each row. It needs nothing else, and is light or dark as the reader's system is.</summary>
internal sealed record BarSheet(string Title, IReadOnlyList<string> Contenders, IReadOnlyList<BarPanel> Panels)
{
    private const double PanelWidth = 440, Margin = 16, NameWidth = 132, FactorWidth = 52, BarHeight = 6, RowGap = 8, Top = 108;

    public string Render()
    {
        double width = Margin + (Panels.Count * (PanelWidth + Margin)), height = Top + Panels.Max(p => p.Rows.Sum(RowHeight)) + Margin;
        var svg = new StringBuilder();
        svg.Append($"<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" role=\"img\" aria-label=\"{Encode(Title)}\">\n<style>\n{Style}\n</style>\n");
        svg.Append($"<rect class=\"page\" width=\"{width}\" height=\"{height}\"/>\n<text class=\"head\" x=\"{Margin}\" y=\"30\">{Encode(Title)}</text>\n");
        double x = Margin;
        for (int i = 0; i < Contenders.Count; i++)
        {
            svg.Append($"<rect class=\"c{i}\" x=\"{x}\" y=\"46\" width=\"18\" height=\"{BarHeight}\" rx=\"2\"/><text x=\"{x + 24}\" y=\"53\">{Encode(Contenders[i])}</text>\n");
            x += 48 + (Contenders[i].Length * 6); // no renderer is asked how wide a text of 11 pixels is
        }

        for (int i = 0; i < Panels.Count; i++) Draw(svg, Panels[i], Margin + (i * (PanelWidth + Margin)));
        return svg.Append("</svg>\n").ToString();
    }

    private static void Draw(StringBuilder svg, BarPanel panel, double x)
    {
        svg.Append($"<text class=\"title\" x=\"{x}\" y=\"80\">{Encode(panel.Title)}</text><text x=\"{x}\" y=\"96\">{Encode(panel.Note)}</text>\n");
        double scale = (PanelWidth - NameWidth - FactorWidth) / panel.Rows.Max(r => r.Bars.Max(b => b.Value)), y = Top;
        foreach (BarRow row in panel.Rows)
        {
            double middle = y + (row.Bars.Count * BarHeight / 2);
            svg.Append($"<text x=\"{x}\" y=\"{middle}\" dy=\"0.32em\">{Encode(row.Name)}</text>");
            for (int i = 0; i < row.Bars.Count; i++)
            {
                Bar bar = row.Bars[i];
                svg.Append($"<rect class=\"c{bar.Colour}\" x=\"{x + NameWidth}\" y=\"{y + (i * BarHeight)}\" width=\"{bar.Value * scale:0.#}\" height=\"{BarHeight - 1}\"><title>{Encode(bar.Hint)}</title></rect>");
            }

            svg.Append($"<text class=\"end {(row.IsAhead ? "ahead" : "behind")}\" x=\"{x + PanelWidth}\" y=\"{middle}\" dy=\"0.32em\">{Encode(row.Factor)}</text>\n");
            y += RowHeight(row);
        }
    }

    private static double RowHeight(BarRow row) => (row.Bars.Count * BarHeight) + RowGap;

    private static string Style => $$"""
        text { font: 11px system-ui, sans-serif; } .title { font-size: 13px; font-weight: 600; } .head { font-size: 17px; font-weight: 600; } .end { text-anchor: end; } .ahead { font-weight: 650; }
        {{Colours(Palette.Light)}}
        @media (prefers-color-scheme: dark) {
        {{Colours(Palette.Dark)}}
        }
        """;

    private static string Colours(Palette p)
        => $"text {{ fill: {p.Soft}; }} .title, .head, .ahead {{ fill: {p.Ink}; }} .behind {{ fill: {p.Wrong}; }} .page {{ fill: {p.Page}; }} " + string.Join(' ', p.Contenders.Take(4).Select((colour, i) => $".c{i} {{ fill: {colour}; }}"));

    private static string Encode(string text) => WebUtility.HtmlEncode(text);
}
