using System.Text;

namespace FusedAttention.Comparison.Reporting;

/// <summary>A report as Markdown.</summary>
internal static class MarkdownReport
{
    public static string Write(ComparisonReport report) => Write("FusedAttention and its peers", ReportTables.Summary(report), ReportTables.Facts(report), [], ReportTables.All(report));

    public static string Write(string title, string summary, IEnumerable<string> facts, IEnumerable<(string File, string Text)> charts, IEnumerable<ReportTable> tables)
    {
        var text = new StringBuilder();
        text.Append("# ").Append(Escape(title)).Append("\n\n");
        text.Append(Escape(summary)).Append("\n\n");
        foreach (string fact in facts) text.Append("- ").Append(Escape(fact)).Append('\n');
        foreach ((string file, string what) in charts) text.Append($"\n![{what}]({file})\n");
        foreach (ReportTable table in tables) Write(text, table);
        return text.ToString();
    }

    private static void Write(StringBuilder text, ReportTable table)
    {
        text.Append("\n## ").Append(Escape(table.Title)).Append("\n\n").Append(Escape(table.Note)).Append("\n\n");
        Row(text, table.Headings.Select(Escape));
        Row(text, table.Headings.Select((_, i) => i == 0 ? "---" : "---:"));
        foreach (IReadOnlyList<Cell> row in table.Rows) Row(text, row.Select(Format));
    }

    private static void Row(StringBuilder text, IEnumerable<string> cells) => text.Append("| ").AppendJoin(" | ", cells).Append(" |\n");

    private static string Format(Cell cell) => cell.Style is CellStyle.Best or CellStyle.Wrong ? $"**{Escape(cell.Text)}**" : Escape(cell.Text);

    private static string Escape(string text) => text.Replace("|", "\\|", StringComparison.Ordinal).Replace("*", "\\*", StringComparison.Ordinal);
}
