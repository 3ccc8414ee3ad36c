namespace FusedAttention.Comparison.Reporting;

/// <summary>The forms of a report, side by side.</summary>
internal static class ReportFiles
{
    /// <summary>Runs that cannot be compared do not overwrite one another: the name has threads and instruction set.</summary>
    public static string Name(ComparisonReport report)
        => $"comparison-{report.InstructionSet.ToString().ToLowerInvariant()}-{report.Threads}-thread{(report.Threads == 1 ? "" : "s")}";

    public static void Write(ComparisonReport report, string folder, string name)
    {
        Directory.CreateDirectory(folder);
        File.WriteAllText(Path.Combine(folder, name + ".json"), JsonReport.Write(report));
        File.WriteAllText(Path.Combine(folder, name + ".md"), MarkdownReport.Write(report));
        File.WriteAllText(Path.Combine(folder, name + ".html"), HtmlReport.Write(report));
        File.WriteAllText(Path.Combine(folder, name + ".svg"), ReportBars.Sheet(report).Render());
    }
}
