using FusedAttention.Checking.Measurement;
using FusedAttention.Comparison.Gpu;

namespace FusedAttention.Comparison.Reporting;

/// <summary>The lines that count, the page made from them, and its charts, side by side in the card's folder.</summary>
internal static class GpuReportFiles
{
    public const string Name = "comparison";

    /// <summary>By the card's name as far as its memory's size: the kind of memory is the same for all of that size.</summary>
    public static string Folder(GpuMeasurements measurements)
    {
        const string Size = "GB";
        string name = measurements.Runs[0].Gpu!;
        int end = name.IndexOf(Size, StringComparison.Ordinal);
        return Processor.Slug(end < 0 ? name : name[..(end + Size.Length)]);
    }

    public static void Write(GpuMeasurements measurements, string folder)
    {
        Directory.CreateDirectory(folder);
        File.WriteAllText(Path.Combine(folder, Name + ".jsonl"), measurements.Write());
        var charts = new List<(string File, string Text)>();
        foreach (string type in GpuCharts.Types(measurements))
        {
            if (GpuCharts.Sheet(measurements, type) is not ChartSheet sheet) continue;
            charts.Add(($"{Name}-{type}.svg", $"{sheet.Title}: FusedAttention, FlashAttention 2 and the best peer"));
            File.WriteAllText(Path.Combine(folder, charts[^1].File), sheet.Render());
        }

        File.WriteAllText(Path.Combine(folder, Name + ".md"), Markdown(measurements, charts));
    }

    public static string Markdown(GpuMeasurements measurements, IReadOnlyList<(string File, string Text)> charts)
        => MarkdownReport.Write($"FusedAttention and its peers: {measurements.Runs[0].Gpu}", GpuTables.Summary(measurements), GpuTables.Facts(measurements), charts, GpuTables.All(measurements))
            + $"\nMade from [{Name}.jsonl]({Name}.jsonl) by the command `gpu` of bench/FusedAttention.Comparison ([how](../../README.md)).\n";
}
