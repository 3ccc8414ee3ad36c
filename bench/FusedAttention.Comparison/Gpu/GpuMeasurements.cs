using System.Text;
using System.Text.Json;
using System.Text.RegularExpressions;

namespace FusedAttention.Comparison.Gpu;

/// <summary>A line and the run that it comes from.</summary>
internal readonly record struct GpuResult(GpuLine Line, int Run);

/// <summary>
/// What runs of bench/gpu/compare.py on one machine found: a later line of a row, a contender and a variant replaces an earlier one. Of a peer's layouts only the fastest is kept, which is the one that counts;
/// all of ours are.
/// </summary>
internal sealed partial class GpuMeasurements
{
    private GpuMeasurements(IReadOnlyList<GpuLine> runs, IReadOnlyList<GpuResult> results, IReadOnlyList<GpuLine> failures)
    {
        Runs = runs;
        Results = results;
        Failures = failures;
    }

    /// <summary>The machine at the beginning of each run.</summary>
    public IReadOnlyList<GpuLine> Runs { get; }

    /// <summary>Ordered by rows, numbers by their size: what a later run adds stands in its place.</summary>
    public IReadOnlyList<GpuResult> Results { get; }

    /// <summary>Rows that hung and that no later run has measured.</summary>
    public IReadOnlyList<GpuLine> Failures { get; }

    public IEnumerable<GpuRow> Rows(string suite)
        => Results.Where(r => string.Equals(r.Line.Suite, suite, StringComparison.Ordinal)).GroupBy(r => r.Line.Row!, StringComparer.Ordinal).Select(g => new GpuRow(g.Key, [.. g]));

    /// <param name="files">Names, for messages, and their lines.</param>
    /// <exception cref="IOException">A line is not one of compare.py's, or there are two machines.</exception>
    public static GpuMeasurements Merge(params IEnumerable<(string Name, IEnumerable<string> Lines)> files)
    {
        List<GpuLine> runs = [];
        var last = new Dictionary<(string Suite, string Row, string Contender, string Variant), GpuResult>();
        List<GpuResult> failures = [];
        foreach ((string name, IEnumerable<string> lines) in files)
        {
            int number = 0, first = runs.Count;
            foreach (string text in lines)
            {
                number++;
                if (text.Length == 0) continue;
                GpuLine line = Parse(name, number, text);
                if (line.Row is null)
                {
                    if (runs.Count > 0 && !string.Equals(line.Gpu, runs[0].Gpu, StringComparison.Ordinal))
                        throw new IOException($"{name}, line {number}: measured on {line.Gpu}, and what comes before it on {runs[0].Gpu}.");
                    runs.Add(line);
                    continue;
                }

                if (runs.Count == first) throw new IOException($"{name}, line {number}: no line of a machine comes before it.");
                var result = new GpuResult(line, runs.Count - 1);
                if (string.Equals(line.Suite, GpuLine.FailureSuite, StringComparison.Ordinal))
                {
                    failures.Add(result);
                    continue;
                }

                last[(line.Suite, line.Row, line.Contender!, line.Variant!)] = result;
            }
        }

        // What a run was doing when it hung is a row's name and more.
        bool Holds(GpuResult failure) => !last.Values.Any(r => r.Run > failure.Run && failure.Line.Row!.StartsWith(r.Line.Row + ":", StringComparison.Ordinal));
        return Kept(runs, [.. BestLayouts(last.Values.OrderBy(PlaceOf, StringComparer.Ordinal))], [.. failures.Where(Holds)]);
    }

    /// <summary>As lines that <see cref="Merge"/> reads again: each machine and what is left of its run.</summary>
    public string Write()
    {
        var text = new StringBuilder();
        for (int run = 0; run < Runs.Count; run++)
        {
            text.Append(Runs[run]).Append('\n');
            foreach (GpuResult result in Results.Where(r => r.Run == run)) text.Append(result.Line).Append('\n');
            if (run == Runs.Count - 1) foreach (GpuLine failure in Failures) text.Append(failure).Append('\n');
        }

        return text.ToString();
    }

    private static GpuLine Parse(string name, int number, string text)
    {
        // Python writes an infinity as no JSON does.
        const string Infinite = "\"error\": Infinity";
        try
        {
            GpuLine line = GpuLine.Parse(text.Replace(Infinite, "\"error\": \"Infinity\"", StringComparison.Ordinal));

            // Of other suites these are by the way: what a measurement needs to know, and kernels that an earlier row may have loaded.
            return line with { HostUs = line.Suite is "host" ? line.HostUs : null, LoadSeconds = line.Suite is "first" ? line.LoadSeconds : null, FirstSeconds = line.Suite is "first-calls" ? line.FirstSeconds : null };
        }
        catch (JsonException failure)
        {
            throw new IOException($"{name}, line {number}: {failure.Message}", failure);
        }
    }

    /// <summary>fp16 first; then a row's name, in which 16k comes after 8k and 1k after 512.</summary>
    private static string PlaceOf(GpuResult result)
    {
        static string Number(Match match) => (long.Parse(match.ValueSpan.TrimEnd('k')) * (match.ValueSpan[^1] == 'k' ? 1024 : 1)).ToString("D12");
        return Numbers().Replace(result.Line.Row!.Replace("fp16", "", StringComparison.Ordinal), Number);
    }

    [GeneratedRegex("[0-9]{1,9}k?", RegexOptions.CultureInvariant | RegexOptions.NonBacktracking)]
    private static partial Regex Numbers();

    private static IEnumerable<GpuResult> BestLayouts(IEnumerable<GpuResult> results)
        => results.GroupBy(r => (r.Line.Suite, r.Line.Row, Whose: r.Line.Contender!.StartsWith(GpuLine.Ours, StringComparison.Ordinal) ? $"{r.Line.Contender} {r.Line.Variant}" : r.Line.Contender))
            .Select(g => g.OrderBy(r => r.Line.IsTimed ? 0 : 1).ThenBy(r => r.Line.BurstUs).First());

    /// <summary>Without the runs of which nothing is left.</summary>
    private static GpuMeasurements Kept(List<GpuLine> runs, GpuResult[] results, GpuResult[] failures)
    {
        int[] kept = [.. results.Select(r => r.Run).Concat(failures.Length > 0 ? [runs.Count - 1] : []).Distinct().Order()];
        return new([.. kept.Select(run => runs[run])], [.. results.Select(r => r with { Run = Array.IndexOf(kept, r.Run) })], [.. failures.Select(f => f.Line)]);
    }
}
