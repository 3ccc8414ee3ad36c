namespace FusedAttention.Comparison.Reporting;

/// <summary>Colours of pages and charts. Those of contenders are distinguishable without red against green; the first, ours, is the strongest.</summary>
internal sealed record Palette(string Page, string Ink, string Soft, string Line, string Panel, string Wrong, IReadOnlyList<string> Contenders)
{
    public static Palette Light { get; } = new("#fff", "#1d2330", "#5c6577", "#d9dde5", "#f6f7f9", "#b3261e", ["#d1495b", "#00798c", "#3066be", "#6d9dc5", "#8a6d00", "#c9a227", "#8c8c8c"]);

    public static Palette Dark { get; } = new("#14171d", "#e5e8ee", "#9aa3b2", "#313742", "#1b1f27", "#ff8a80", ["#ff6b7d", "#3fc1d0", "#7ba7f7", "#a9cbe8", "#d0ac3a", "#f0d264", "#a0a0a0"]);

    /// <summary>As variables of a style sheet.</summary>
    public string Variables
        => $"--page: {Page}; --ink: {Ink}; --soft: {Soft}; --line: {Line}; --panel: {Panel}; --wrong: {Wrong};\n  {string.Join(' ', Contenders.Select((colour, i) => $"--c{i}: {colour};"))}";
}
