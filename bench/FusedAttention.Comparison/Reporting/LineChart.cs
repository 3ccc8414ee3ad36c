using System.Net;
using System.Text;

namespace FusedAttention.Comparison.Reporting;

/// <summary>Points of one contender; its place among the contenders decides its colour.</summary>
internal sealed record ChartSeries(string Name, int Colour, IReadOnlyList<(double X, double Y)> Points);

/// <summary>
/// A chart as inline SVG, without script. Colours come from the page's style sheet by class, so that light and dark need no second drawing. The x axis is logarithmic with a tick
/// at every x that occurs; or it has categories, and bars stand there in place of lines.
/// </summary>
internal sealed record LineChart
{
    public const double Height = 240;
    private const double Left = 52;
    private const double Right = 12;
    private const double Top = 30;
    private const double Bottom = 40;
    private const int MaxTicks = 8;

    public double Width { get; init; } = 360;

    public required string Title { get; init; }

    public required string XLabel { get; init; }

    public required IReadOnlyList<ChartSeries> Series { get; init; }

    public required Func<double, string> FormatX { get; init; }

    public required Func<double, string> FormatY { get; init; }

    /// <summary>A dashed line across at this y; null for none.</summary>
    public double? Ceiling { get; init; }

    /// <summary>What stands at x = 0, 1, 2 ..., if x is no number; y begins at 0 then.</summary>
    public IReadOnlyList<string>? Categories { get; init; }

    public bool IsLogarithmic { get; init; }

    /// <param name="attributes">More of them for the element.</param>
    public string Render(string attributes = "")
    {
        (double X, double Y)[] points = [.. Series.SelectMany(s => s.Points)];
        double[] columns = Categories is null ? [.. points.Select(p => p.X).Distinct().Order()] : [1];
        ChartScale x = ChartScale.Logarithmic(columns[0], columns[^1], Left + 10, Width - Right - 10, columns);
        ChartScale y = YScale(points);

        var svg = new StringBuilder();
        svg.Append($"<svg viewBox=\"0 0 {Width} {Height}\" role=\"img\" aria-label=\"{Encode(Title)}\"{attributes}>\n");
        svg.Append($"<text class=\"title\" x=\"{Left}\" y=\"16\">{Encode(Title)}</text>\n");
        foreach (double tick in y.Ticks)
        {
            string at = Number(y.Position(tick));
            svg.Append($"<line class=\"grid\" x1=\"{Left}\" x2=\"{Width - Right}\" y1=\"{at}\" y2=\"{at}\"/>");
            svg.Append($"<text class=\"tick end\" x=\"{Left - 6}\" y=\"{at}\" dy=\"0.32em\">{Encode(FormatY(tick))}</text>\n");
        }

        int every = ((x.Ticks.Count - 1) / MaxTicks) + 1;
        for (int i = 0; Categories is null && i < x.Ticks.Count; i += every) XText(svg, x.Position(x.Ticks[i]), FormatX(x.Ticks[i]));
        for (int i = 0; i < Categories?.Count; i++) XText(svg, Slot(i) + (SlotWidth / 2), Categories[i]);
        svg.Append($"<text class=\"tick middle\" x=\"{Number((Left + Width - Right) / 2)}\" y=\"{Height - 6}\">{Encode(XLabel)}</text>\n");
        if (Ceiling is double ceiling)
        {
            string at = Number(y.Position(ceiling));
            svg.Append($"<line class=\"ceiling\" x1=\"{Left}\" x2=\"{Width - Right}\" y1=\"{at}\" y2=\"{at}\"><title>ceiling: {Encode(FormatY(ceiling))}</title></line>\n");
        }

        // The first series, ours, is drawn last: on top.
        foreach (ChartSeries series in Series.Reverse())
        {
            if (Categories is null) Draw(svg, series, x, y);
            else DrawBars(svg, series, y);
        }

        return svg.Append("</svg>\n").ToString();
    }

    private ChartScale YScale((double X, double Y)[] points)
    {
        double max = Math.Max(points.Max(p => p.Y), Ceiling ?? 0);
        if (!IsLogarithmic) return ChartScale.FromZero(max, Height - Bottom, Top);
        double low = Math.Floor(Math.Log2(points.Min(p => p.Y)));
        double high = Math.Ceiling(Math.Log2(max));
        int step = (int)Math.Ceiling((high - low) / 6);
        return ChartScale.Logarithmic(Math.Pow(2, low), Math.Pow(2, high), Height - Bottom, Top, Enumerable.Range(0, 7).Select(i => Math.Pow(2, low + (i * step))));
    }

    private void Draw(StringBuilder svg, ChartSeries series, ChartScale x, ChartScale y)
    {
        if (series.Points.Count == 0) return;
        svg.Append($"<g class=\"c{series.Colour}\"><polyline points=\"");
        svg.AppendJoin(' ', series.Points.Select(p => $"{Number(x.Position(p.X))},{Number(y.Position(p.Y))}")).Append("\"/>");
        foreach ((double px, double py) in series.Points)
        {
            svg.Append($"<circle cx=\"{Number(x.Position(px))}\" cy=\"{Number(y.Position(py))}\" r=\"{(series.Colour == 0 ? 4 : 3)}\">");
            svg.Append($"<title>{Encode(series.Name)}, {Encode(FormatX(px))}: {Encode(FormatY(py))}</title></circle>");
        }

        svg.Append("</g>\n");
    }

    private void DrawBars(StringBuilder svg, ChartSeries series, ChartScale y)
    {
        double width = SlotWidth * 0.8 / Series.Count;
        double left = (SlotWidth * 0.1) + (width * Series.TakeWhile(s => s != series).Count());
        svg.Append($"<g class=\"c{series.Colour}\">");
        foreach ((double place, double value) in series.Points)
        {
            double top = y.Position(value);
            svg.Append($"<rect x=\"{Number(Slot(place) + left)}\" y=\"{Number(top)}\" width=\"{Number(width - 1)}\" height=\"{Number(Height - Bottom - top)}\">");
            svg.Append($"<title>{Encode(series.Name)}, {Encode(FormatX(place))}: {Encode(FormatY(value))}</title></rect>");
        }

        svg.Append("</g>\n");
    }

    private double SlotWidth => (Width - Left - Right) / Categories!.Count;

    private double Slot(double place) => Left + (place * SlotWidth);

    private static void XText(StringBuilder svg, double x, string text) => svg.Append($"<text class=\"tick middle\" x=\"{Number(x)}\" y=\"{Height - Bottom + 16}\">{Encode(text)}</text>\n");

    private static string Encode(string text) => WebUtility.HtmlEncode(text);

    private static string Number(double value) => value.ToString("0.##");
}
