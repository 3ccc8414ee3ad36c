using System.Text.Json;
using System.Xml.Linq;
using FusedAttention.Comparison.Cases;
using FusedAttention.Comparison.Reporting;
using Xunit;

namespace FusedAttention.Comparison.Tests;

public class ReportTests
{
    private readonly ComparisonReport _report = ReportSample.Create();

    [Fact]
    public void Advantage_is_over_the_fastest_peer_that_was_timed()
    {
        Assert.Equal([1.5, 20.0 / 30, 2.0], _report.Rows.Select(r => r.Advantage!.Value));
        Assert.Equal(ReportSample.OtherPeer, _report.Rows[2].BestPeer!.Contender);
    }

    [Fact]
    public void Summary_counts_the_rows_where_we_lose()
        => Assert.Equal("FusedAttention is ahead of every peer in 2 of 3 rows: 0.67x to 2.00x the best peer, median 1.50x.", ReportTables.Summary(_report));

    [Fact]
    public void Json_has_every_result_of_every_row()
    {
        using JsonDocument json = JsonDocument.Parse(JsonReport.Write(_report));
        JsonElement rows = json.RootElement.GetProperty("rows");
        Assert.Equal(3, rows.GetArrayLength());
        Assert.All(rows.EnumerateArray(), row => Assert.Equal(3, row.GetProperty("results").GetArrayLength()));
        Assert.Equal("prefill fp32 8/8 D64 512 full", rows[0].GetProperty("case").GetProperty("name").GetString());
        Assert.Equal("no such kernel", rows[0].GetProperty("results")[2].GetProperty("note").GetString());
        Assert.Equal("mismatch", rows[1].GetProperty("results")[2].GetProperty("status").GetString());
        Assert.Equal("NaN", rows[1].GetProperty("results")[2].GetProperty("maxAbsoluteError").GetString());
        Assert.Equal(2, rows[0].GetProperty("results")[0].GetProperty("bestMilliseconds").GetDouble());
        Assert.Equal(100, json.RootElement.GetProperty("ceilings").GetProperty("gigaflopsPerSecond").GetDouble());
    }

    [Fact]
    public void What_is_read_back_writes_the_same_again()
    {
        string json = JsonReport.Write(_report);
        Assert.Equal(json, JsonReport.Write(JsonReport.Read(json)));
    }

    [Fact]
    public void Pages_say_what_makes_them_again()
    {
        foreach (string page in (string[])[MarkdownReport.Write(_report), HtmlReport.Write(_report)])
            Assert.Contains("bash bench/compare.sh --seconds 0.5 --threads 1.", page, StringComparison.Ordinal);
    }

    [Fact]
    public void Every_case_is_read_back()
    {
        AttentionCase[] cases = [.. CaseList.All(isLong: true)];
        ComparisonReport report = _report with { Rows = [.. cases.Select(c => _report.Rows[0] with { Case = c })] };
        Assert.Equal(cases, JsonReport.Read(JsonReport.Write(report)).Rows.Select(r => r.Case));
    }

    [Fact]
    public void Bars_have_every_row_with_the_best_peer_of_each_family_and_the_factor()
    {
        BarSheet sheet = ReportBars.Sheet(_report);
        Assert.Equal(2, sheet.Panels.Count);
        Assert.Equal([("1.50x", true), ("0.67x", false)], sheet.Panels[0].Rows.Select(r => (r.Factor, r.IsAhead)));
        BarRow decode = Assert.Single(sheet.Panels[1].Rows);
        Assert.Equal([(0, 10.0), (1, 5.0)], decode.Bars.Select(b => (b.Colour, b.Value))); // "peer <1> | a" and "peer 2" are one family, of which the second is faster
        XElement.Parse(sheet.Render());
    }

    /// <summary>The chart that the README shows is made from the numbers beside it.</summary>
    [Fact]
    public void Committed_charts_are_those_of_their_numbers()
    {
        string[] files = [.. Directory.EnumerateFiles(Path.Combine(ReferenceData.Root, "bench", "results"), "comparison-*.json", SearchOption.AllDirectories)];
        Assert.NotEmpty(files);
        Assert.All(files, file => Assert.Equal(ReportBars.Sheet(JsonReport.Read(File.ReadAllText(file))).Render().ReplaceLineEndings("\n"), File.ReadAllText(Path.ChangeExtension(file, ".svg")).ReplaceLineEndings("\n")));
    }

    [Fact]
    public void Markdown_tables_are_rectangular_and_mark_the_fastest()
    {
        string[] lines = MarkdownReport.Write(_report).Split('\n');
        int columns = 0;
        foreach (string line in lines)
        {
            int bars = line.Replace("\\|", "", StringComparison.Ordinal).Count(c => c == '|');
            if (columns != 0 && bars != 0) Assert.Equal(columns, bars);
            columns = bars;
        }

        Assert.Contains(lines, line => line.StartsWith("| fp32 D64 full 512 | **50.0 (50 %)** | 33.3 (33 %) | - | **1.50x** |", StringComparison.Ordinal));
        Assert.Contains(lines, line => line.StartsWith("| fp32 D64 full 2048 | 3.3 (3 %) | **5.0 (5 %)** | **wrong output** | 0.67x |", StringComparison.Ordinal));
        Assert.Contains(lines, line => line.StartsWith("| fp16 32/8 heads D128, 4096 keys | **10.0 (100 %)** |", StringComparison.Ordinal));
    }

    [Fact]
    public void Html_stands_alone_and_escapes_names()
    {
        string html = HtmlReport.Write(_report);
        Assert.DoesNotContain("http", html, StringComparison.OrdinalIgnoreCase);
        Assert.DoesNotContain("<script", html, StringComparison.OrdinalIgnoreCase);
        Assert.DoesNotContain("peer <1>", html, StringComparison.Ordinal);
        Assert.Contains("peer &lt;1&gt; | a", html, StringComparison.Ordinal);
        Assert.Contains("Some &amp; Processor", html, StringComparison.Ordinal);
        Assert.Contains("prefers-color-scheme: dark", html, StringComparison.Ordinal);

        // One chart of prefill (one type, dim and mask), one of decode, one of memory; each well-formed.
        string[] charts = [.. html.Split("<svg").Skip(1).Select(part => "<svg" + part[..(part.IndexOf("</svg>", StringComparison.Ordinal) + 6)])];
        Assert.Equal(3, charts.Length);
        XElement prefill = XElement.Parse(charts[0]);
        Assert.Equal(2, prefill.Elements("g").Count()); // the peer without a timed result has no line
        Assert.Equal(4, prefill.Descendants("circle").Count());
        Assert.Single(prefill.Elements("line"), line => string.Equals(line.Attribute("class")?.Value, "ceiling", StringComparison.Ordinal));
        Assert.All(charts.Skip(1), chart => XElement.Parse(chart));
    }

    [Fact]
    public void Shares_are_of_the_roofline_that_binds()
    {
        Assert.Equal(0.5, _report.Ceilings.Share(floatingPointOperations: 1e8, bytes: 1000, milliseconds: 2), 6);
        Assert.Equal(0.25, _report.Ceilings.Share(floatingPointOperations: 1000, bytes: 1e7, milliseconds: 2), 6);
        Assert.True(_report.Ceilings.IsArithmeticBound(1e8, 1000));
        Assert.False(_report.Ceilings.IsArithmeticBound(1000, 1e7));
    }

    [Fact]
    public void Files_are_named_by_what_cannot_be_compared()
        => Assert.Equal("comparison-avx2-1-thread", ReportFiles.Name(_report));
}
