using System.CommandLine;
using System.CommandLine.Parsing;
using System.Globalization;
using System.Text.Json;
using System.Text.RegularExpressions;
using FusedAttention;
using FusedAttention.Checking.Measurement;
using FusedAttention.Comparison;
using FusedAttention.Comparison.Cases;
using FusedAttention.Comparison.Contenders;
using FusedAttention.Comparison.Gpu;
using FusedAttention.Comparison.Reporting;

var filter = new Option<string?>("--filter") { Description = "Only cases whose name this regular expression matches; --list shows the names.", HelpName = "REGEX" };
var list = new Option<bool>("--list") { Description = "Show the cases and leave." };
var isLong = new Option<bool>("--long") { Description = "Prefill of 8192 tokens too." };
var threads = new Option<int>("--threads") { Description = "Threads of every contender.", DefaultValueFactory = _ => 1 };
var seconds = new Option<double>("--seconds") { Description = "Time for each contender in each row; at least three trials are made.", DefaultValueFactory = _ => 1, CustomParser = Seconds };
var variant = new Option<CpuInstructionSet>("--variant") { Description = "Variant of our kernels; shares are of this instruction set's peak.", DefaultValueFactory = _ => CpuInstructionSet.Auto };
var ggmlVariant = new Option<string?>("--ggml-variant") { Description = "ggml's CPU backend by name (haswell, zen4, ...); the best one if not given.", HelpName = "NAME" };
var modules = new Option<string>("--peers") { Description = "The folder node_modules with the peers that come by npm.", HelpName = "DIR", DefaultValueFactory = _ => "bench/FusedAttention.Comparison/node_modules" };
var noPeers = new Option<bool>("--no-peers") { Description = "Ours alone." };
var output = new Option<string>("--output") { Description = "The reports go to a folder in here, named by the processor.", HelpName = "DIR", DefaultValueFactory = _ => "bench/results" };

var command = new RootCommand("Times FusedAttention, ONNX Runtime, torch and ggml on the same inputs, in turns, and writes JSON, Markdown, HTML and a chart.");
foreach (Option option in (Option[])[filter, list, isLong, threads, seconds, variant, ggmlVariant, modules, noPeers, output]) command.Add(option);
command.Add(GpuCommand());
command.Add(ChartCommand());
command.SetAction(parsed =>
{
    var pattern = new Regex(parsed.GetValue(filter) ?? "", RegexOptions.CultureInvariant, TimeSpan.FromSeconds(1));
    AttentionCase[] cases = [.. CaseList.All(parsed.GetValue(isLong)).Where(c => pattern.IsMatch(c.Name))];
    if (parsed.GetValue(list))
    {
        foreach (AttentionCase attentionCase in cases) Console.WriteLine(attentionCase.Name);
        return 0;
    }

    int threadCount = parsed.GetValue(threads);
    double time = parsed.GetValue(seconds);
    if (cases.Length == 0 || threadCount < 1 || time is not (> 0 and < 1e6))
    {
        Console.Error.WriteLine("Nothing to measure: --filter must match a case (--list shows the names), --threads be 1 or more, --seconds above 0.");
        return 2;
    }

    try
    {
        using PeerLibraries? peers = parsed.GetValue(noPeers) ? null : PeerLibraries.Load(parsed.GetValue(modules)!, parsed.GetValue(ggmlVariant));
        foreach (string missing in peers?.Missing ?? []) Console.Error.WriteLine(missing);
        CpuInstructionSet set = parsed.GetValue(variant);
        var execution = new CpuExecution { MaxDegreeOfParallelism = threadCount, InstructionSet = set };
        var progress = new Progress(Console.Error, !Console.IsErrorRedirected);
        ComparisonReport report = new ComparisonRun(cases, peers, execution, threadCount, TimeSpan.FromSeconds(time), progress).Execute();

        string folder = Path.Combine(parsed.GetValue(output)!, Processor.Slug(report.Machine.Processor));
        string name = ReportFiles.Name(report);
        ReportFiles.Write(report, folder, name);
        Console.WriteLine(Path.Combine(folder, name + ".html"));
        return 0;
    }
    catch (Exception e) when (e is IOException or NotSupportedException or DllNotFoundException)
    {
        Console.Error.WriteLine(e.Message);
        return 1;
    }
});
return command.Parse(args).Invoke();

// "0,5" is no number, nor 5; what is none is refused as one that is not above 0.
static double Seconds(ArgumentResult result) => double.TryParse(result.Tokens[0].Value, NumberStyles.Float, CultureInfo.InvariantCulture, out double time) ? time : 0;

static Command ChartCommand()
{
    var file = new Argument<string>("FILE") { Description = "The JSON of a run." };
    var chart = new Command("chart", "Measures nothing: makes the chart of a run from its JSON again, beside it.") { file };
    chart.SetAction(parsed =>
    {
        try
        {
            string json = parsed.GetRequiredValue(file), svg = Path.ChangeExtension(json, ".svg");
            File.WriteAllText(svg, ReportBars.Sheet(JsonReport.Read(File.ReadAllText(json))).Render());
            Console.WriteLine(svg);
            return 0;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or JsonException)
        {
            Console.Error.WriteLine(e.Message);
            return 1;
        }
    });
    return chart;
}

static Command GpuCommand()
{
    var files = new Argument<string[]>("FILES") { Description = "Lines that bench/gpu/compare.py wrote, of one machine; later ones replace earlier ones of the same row and contender.", Arity = ArgumentArity.OneOrMore };
    var folder = new Option<string>("--output") { Description = "The report goes to a folder in here, named by the card.", HelpName = "DIR", DefaultValueFactory = _ => "bench/results" };
    var gpu = new Command("gpu", "Measures nothing: makes the report of runs on a GPU from their lines, as Markdown, charts and the lines that count.") { files, folder };
    gpu.SetAction(parsed =>
    {
        try
        {
            GpuMeasurements measurements = GpuMeasurements.Merge(parsed.GetRequiredValue(files).Select(file => (file, (IEnumerable<string>)File.ReadAllLines(file))));
            if (measurements.Results.Count == 0) throw new IOException("The files have no row.");
            string target = Path.Combine(parsed.GetValue(folder)!, GpuReportFiles.Folder(measurements));
            GpuReportFiles.Write(measurements, target);
            Console.WriteLine(Path.Combine(target, GpuReportFiles.Name + ".md"));
            foreach (GpuLine line in measurements.Results.Select(r => r.Line).Where(l => l.Status == GpuStatus.Wrong)) Console.Error.WriteLine($"Wrong: {line.Row}: {line.Contender} {line.Variant}: {line.Note}");
            return 0;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            Console.Error.WriteLine(e.Message);
            return 1;
        }
    });
    return gpu;
}
