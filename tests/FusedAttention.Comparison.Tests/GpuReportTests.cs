using System.Xml.Linq;
using FusedAttention.Comparison.Gpu;
using FusedAttention.Comparison.Reporting;
using Xunit;

namespace FusedAttention.Comparison.Tests;

public class GpuReportTests
{
    private readonly GpuMeasurements _first = GpuSample.Merge(GpuSample.First);
    private readonly GpuMeasurements _merged = GpuSample.Merge(GpuSample.First, GpuSample.Later);

    [Fact]
    public void Of_a_peers_layouts_the_fastest_counts_and_all_of_ours_are_kept()
    {
        GpuRow prefill = _first.Rows("prefill").Last();
        Assert.Equal(["FlashAttention 2 head-major", "cuDNN head-major", "ours mma", "ours wgmma"], prefill.Lines.Select(l => $"{l.Contender} {l.Variant}").Order(StringComparer.Ordinal), StringComparer.Ordinal);
        Assert.Equal("wgmma", prefill.Ours!.Variant);
        Assert.Equal(["default", "head-major"], _first.Rows("decode").First().Lines.Where(l => l.IsOurs).Select(l => l.Variant).Order(StringComparer.Ordinal), StringComparer.Ordinal);
    }

    [Fact]
    public void Rows_are_ordered_by_the_size_of_numbers()
        => Assert.Equal(["full 512", "full 1k", "full 8k"], _first.Rows("prefill").Select(r => r.Name["prefill fp16 D64 ".Length..]), StringComparer.Ordinal);

    [Fact]
    public void Later_lines_replace_earlier_ones_of_the_same_row_and_contender()
    {
        GpuRow before = _first.Rows("prefill").First(), after = _merged.Rows("prefill").First();
        Assert.Equal(new GpuRatio(200.0 / 250, null, true), before.Advantage);
        Assert.Equal(new GpuRatio(200.0 / 160, null, false), after.Advantage);
        Assert.Equal(_first.Results.Count, _merged.Results.Count);
        Assert.Equal(["b16cd88", "c0ffee1"], _merged.Runs.Select(r => r.Commit), StringComparer.Ordinal);
        Assert.Equal("hangs", Assert.Single(_first.Failures).Note);
        Assert.Empty(_merged.Failures); // measured since
        Assert.Single(GpuSample.Merge(GpuSample.First, GpuSample.First).Runs); // nothing is left of the earlier one
    }

    [Fact]
    public void Ratios_are_of_times_and_take_the_best_of_ours_for_each_kind()
    {
        GpuRow prefill = _first.Rows("prefill").Last(), decode = _first.Rows("decode").First();
        Assert.Equal(new GpuRatio(2, 1.7, true), prefill.RatioTo("FlashAttention 2"));
        Assert.Equal(new GpuRatio(1.2, 1.25, true), prefill.Advantage);
        Assert.Equal(new GpuRatio(0.96, 0.95, true), decode.Advantage);
        Assert.Null(prefill.RatioTo("FlexAttention"));
    }

    [Fact]
    public void Lines_that_count_are_read_again_as_the_same()
    {
        foreach (GpuMeasurements measurements in new[] { _first, _merged })
        {
            string lines = measurements.Write();
            GpuMeasurements again = GpuSample.Merge(lines);
            Assert.Equal(lines, again.Write());
            Assert.Equal(GpuReportFiles.Markdown(measurements, []), GpuReportFiles.Markdown(again, []));
        }

        string text = _merged.Write();
        Assert.DoesNotContain("token-major\",\"status\":\"timed\",\"error\":0.00029546", text, StringComparison.Ordinal); // the slower layout
        Assert.DoesNotContain("\"first_seconds\":3.5", text, StringComparison.Ordinal); // of first calls alone, which are measured in a process of their own
        Assert.Contains("\"first_seconds\":2.25", text, StringComparison.Ordinal);
        Assert.True(text.Length < GpuSample.First.Length);
    }

    [Fact]
    public void Markdown_says_who_is_ahead_what_is_missing_and_what_is_wrong()
    {
        string[] lines = GpuReportFiles.Markdown(_first, [("comparison-fp16.svg", "chart")]).Split('\n');
        Assert.Contains(
            "Prefill: the fastest in 2 of 3 rows by the best launch, 0.80x to 1.25x, median 1.20x the best peer; kept busy, in 1 of 1: 1.25x to 1.25x, median 1.25x. "
                + "Decode: the fastest in 0 of 1 rows by the best launch, 0.96x to 0.96x, median 0.96x the best peer; kept busy, in 0 of 1: 0.95x to 0.95x, median 0.95x.", lines, StringComparer.Ordinal);
        Assert.Contains("- Commit b16cd88, 2026-11-27 04:51 UTC, one run: driver 580.159.04, torch 2.11.0+cu130 (CUDA 13.0), cuDNN 9.19.0.", lines, StringComparer.Ordinal);
        Assert.Contains("- Not measured: prefill fp16 D64 full 512: ours wgmma, sustained hangs.", lines, StringComparer.Ordinal);
        Assert.Contains("![chart](comparison-fp16.svg)", lines, StringComparer.Ordinal);
        Assert.Contains("| full 512 | - | **200 / -** | 160 / - | **wrong output** | - | 0.80 / - | Infinity |", lines, StringComparer.Ordinal);
        Assert.Contains("| full 8k | 314 / 323 | 524 / 440 | 333 / 323 | **628 / 550** | **2.00 / 1.70** | **1.20 / 1.25** | 4.0e-4 |", lines, StringComparer.Ordinal);
        Assert.Contains("| B8 32/8 x 8k | **96.0 (2.80 / 2.83)** | 108.0 (2.49 / 2.24) | 100.0 (2.68 / 2.68) | 0.96 / 0.95 | 3.0e-4 |", lines, StringComparer.Ordinal);
        Assert.Contains("| fp16 D128 B8 32/8 x 8k paged-16 | 110.0 (2.44 / -) | 1.02 |", lines, StringComparer.Ordinal);
        Assert.Contains("| alibi 8k | 1890 | 1.05 | - | - |", lines, StringComparer.Ordinal);
        Assert.Contains("| fp16 D64 packed-mixed 16k | 293 | - |", lines, StringComparer.Ordinal);
        Assert.Contains("|  | mma | mma / plain | mma / built-in | wgmma | wgmma / plain | wgmma / built-in | FlexAttention | ours / Flex | error |", lines, StringComparer.Ordinal);
        Assert.Contains("| fp16 D64 alibi 8k | 1920 | 1.07 / 1.10 | 1.02 / 1.05 | **wrong output** | - | - | 2880 | **1.50 / 1.36** | 1.0e0 |", lines, StringComparer.Ordinal);
        Assert.Contains("| fp16 D128 t5 decode B8 32/8 x 8k | 107 | 1.07 / - | - | - | - | 3.0e-4 |", lines, StringComparer.Ordinal);
        Assert.Contains("| fp16 D128 t5 8k | 500 | 400 | 2250 | 4.5 |", lines, StringComparer.Ordinal);
        Assert.Contains("| decode fp16 D64 | - | - | 117 |", lines, StringComparer.Ordinal);
        Assert.Contains("| decode B1 32/8 x 128 | 23.2 (21.8) | 10.3 (9.6) |", lines, StringComparer.Ordinal);

        string merged = GpuReportFiles.Markdown(_merged, []);
        Assert.Contains("| **250 / -** | - | **1.25 / -\u2020** |", merged, StringComparison.Ordinal);
        Assert.Contains("- \u2020 What is compared comes from different runs.", merged, StringComparison.Ordinal);
        Assert.DoesNotContain("different runs", string.Join('\n', lines), StringComparison.Ordinal);
    }

    [Fact]
    public void Charts_are_one_file_that_needs_nothing_else()
    {
        Assert.Equal(["fp16"], GpuCharts.Types(_first), StringComparer.Ordinal);
        string text = GpuCharts.Sheet(_first, "fp16")!.Render();
        XElement svg = XElement.Parse(text);
        XNamespace space = "http://www.w3.org/2000/svg";
        Assert.Equal(space + "svg", svg.Name);
        Assert.Contains("prefers-color-scheme: dark", svg.Element(space + "style")!.Value, StringComparison.Ordinal);
        Assert.DoesNotContain("var(", text, StringComparison.Ordinal);
        Assert.Contains("best peer (cuDNN)", text, StringComparison.Ordinal);

        // Three lengths of ours and the best peer, and one of FlashAttention 2 as lines; a shape of decoding as bars, where FlashAttention 2 has none.
        XElement[] charts = [.. svg.Elements(space + "svg")];
        Assert.Equal(["D64 full", "fp16 D128"], charts.Select(c => c.Element(space + "text")!.Value), StringComparer.Ordinal);
        Assert.Equal(7, charts[0].Descendants(space + "circle").Count());
        Assert.Equal(2, charts[1].Descendants(space + "rect").Count());
        Assert.Contains("FusedAttention, decode fp16 D128 B8 32/8 x 8k: 2.68", charts[1].Value, StringComparison.Ordinal);
        Assert.Null(GpuCharts.Sheet(_first, "bf16"));
    }

    [Fact]
    public void Files_go_to_the_cards_folder()
    {
        Assert.Equal("nvidia-h100-80gb", GpuReportFiles.Folder(_first));
        string folder = Directory.CreateTempSubdirectory("fusedattention-").FullName;
        try
        {
            GpuReportFiles.Write(_first, folder);
            Assert.Equal(["comparison-fp16.svg", "comparison.jsonl", "comparison.md"], Directory.GetFiles(folder).Select(f => Path.GetFileName(f)).Order(StringComparer.Ordinal), StringComparer.Ordinal);
            Assert.Equal(_first.Write(), File.ReadAllText(Path.Combine(folder, "comparison.jsonl")));
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }

    [Theory]
    [InlineData("{\"suite\": \"first\"", "file 2, line 2: ")]
    [InlineData("{\"suite\": \"first\", \"row\": \"r\", \"contender\": \"ours\", \"variant\": \"mma\"}", "file 2, line 2: A row, a contender, a variant or a status is missing.")]
    [InlineData("{\"suite\": \"machine\", \"gpu\": \"Another\", \"started\": \"2026-11-27 04:51:43\"}", "file 2, line 2: measured on Another, and what comes before it on NVIDIA H100 80GB HBM3.")]
    public void What_cannot_be_read_or_compared_is_told_by_its_place(string line, string words)
        => Assert.StartsWith(words, Assert.Throws<IOException>(() => GpuSample.Merge(GpuSample.First, GpuSample.Later.Split('\n')[0] + "\n" + line)).Message, StringComparison.Ordinal);

    [Fact]
    public void A_file_begins_with_its_machine()
        => Assert.Equal("file 2, line 1: no line of a machine comes before it.", Assert.Throws<IOException>(() => GpuSample.Merge(GpuSample.First, GpuSample.Later.Split('\n')[1])).Message);
}
