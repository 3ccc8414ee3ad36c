using System.CommandLine;
using System.Diagnostics;
using System.Text;
using System.Text.Json;
using FusedAttention.Cli.Calls;
using FusedAttention.Cli.Measurement;

namespace FusedAttention.Cli.Commands;

/// <summary><c>bench</c>: the speed of a call of some shape on random numbers.</summary>
internal sealed class BenchCommand
{
    private const string Description = """
        Time attention on random tensors of a shape: best and median of many short trials after a warm-up.
        GFLOP/s count the multiply-adds of allowed (query, key) pairs only; GB/s count keys and values once.

        Examples:
          fused-attention bench --query-length 2048 --dim 128 --mask causal --threads 1
          fused-attention bench --query-heads 32 --kv-heads 8 --query-length 1 --key-length 32768 --dtype fp16 --json
          fused-attention bench --batch 8 --query-length 1 --key-length 4096 --paged 16 --kv-dtype bf16
          fused-attention bench --query-length 2048 --threads 1 --ceilings
        """;

    /// <summary>Enough calls for the JIT compiler's last tier and for the clock to settle.</summary>
    private static readonly TimeSpan WarmUp = TimeSpan.FromMilliseconds(400);

    /// <summary>Enough to find the best of several ways of reading a gigabyte.</summary>
    private static readonly TimeSpan CeilingTime = TimeSpan.FromSeconds(3);

    /// <summary>Calls shorter than this are timed in groups, so that a trial is long beside the clock's own cost and an interrupt.</summary>
    private static readonly TimeSpan MinTrial = TimeSpan.FromMilliseconds(2);

    private readonly ShapeOptions _shape = new();
    private readonly ExecutionOptions _execution = new();
    private readonly Option<double> _seconds = new("--seconds") { Description = "Time to measure for; at least three trials are made.", HelpName = "S", DefaultValueFactory = _ => 2 };
    private readonly Option<bool> _json = new("--json") { Description = "Print one line of JSON and nothing else.", Arity = ArgumentArity.Zero };
    private readonly Option<bool> _ceilings = new("--ceilings")
    {
        Description = "Measure what this machine can do at most too (multiply-adds, reading memory) and print the share of it.",
        Arity = ArgumentArity.Zero,
    };

    private readonly ToolConsole _console;

    private BenchCommand(ToolConsole console) => _console = console;

    public static Command Create(ToolConsole console)
    {
        var bench = new BenchCommand(console);
        var command = new Command("bench", Description);
        bench._shape.AddTo(command);
        bench._execution.AddTo(command);
        command.Add(bench._seconds);
        command.Add(bench._json);
        command.Add(bench._ceilings);
        return command.WithAction(console, bench.Execute);
    }

    private int Execute(ParseResult parsed, CancellationToken cancellation)
    {
        CallShape shape = _shape.Read(parsed);
        double seconds = parsed.GetValue(_seconds);
        if (!(seconds is > 0 and < 1e6)) throw new UsageException($"--seconds {seconds} is not a time above 0.");
        AttentionOptions run = _execution.Read(parsed, cancellation);
        AttentionExplanation explanation = shape.Explain(run);
        PreparedCall prepared = PreparedCall.Create(shape.CreateCall(run));

        // The bar counts tenths of a second.
        double[] trials = _console.WithProgress("measuring", 10 * (seconds + WarmUp.TotalSeconds), tick => Measure(prepared, TimeSpan.FromSeconds(seconds), tick));
        Ceilings? ceilings = null;
        if (parsed.GetValue(_ceilings))
        {
            if (explanation.InstructionSet is not { } instructionSet || !MultiplyAddPeak.IsSupported(instructionSet)) throw new UsageException("--ceilings needs fused multiply-adds, which this machine lacks.");
            ceilings = _console.WithProgress("ceilings", 1, _ => Ceilings.Measure(instructionSet, Math.Max(1, explanation.Threads), CeilingTime));
        }

        Array.Sort(trials);
        double best = trials[0];
        double median = trials.Length % 2 == 1 ? trials[trials.Length / 2] : (trials[(trials.Length / 2) - 1] + trials[trials.Length / 2]) / 2;
        var result = new BenchResult(shape, explanation, run.RowInvariant, trials.Length, best, median, ceilings);
        if (parsed.GetValue(_json)) _console.Line(result.ToJson());
        else result.Print(_console);
        return ExitCode.Success;
    }

    /// <summary>Milliseconds a call, one number a trial.</summary>
    private static double[] Measure(PreparedCall prepared, TimeSpan time, Action tick)
    {
        AttentionOptions options = prepared.Call.Options;
        long start = Stopwatch.GetTimestamp();
        int ticks = 0;
        int calls = 0;
        TimeSpan shortest = TimeSpan.MaxValue;
        while (calls == 0 || Stopwatch.GetElapsedTime(start) < WarmUp)
        {
            shortest = TimeSpan.FromTicks(Math.Min(shortest.Ticks, Trial(prepared, options, 1).Ticks));
            calls++;
            Tick();
        }

        int group = Math.Max(1, (int)(MinTrial / TimeSpan.FromTicks(Math.Max(1, shortest.Ticks))));
        var trials = new List<double>();
        long measured = Stopwatch.GetTimestamp();
        while (trials.Count < 3 || Stopwatch.GetElapsedTime(measured) < time)
        {
            trials.Add(Trial(prepared, options, group).TotalMilliseconds / group);
            Tick();
        }

        return [.. trials];

        void Tick()
        {
            for (int due = (int)(Stopwatch.GetElapsedTime(start).TotalSeconds * 10); ticks < due; ticks++) tick();
        }
    }

    private static TimeSpan Trial(PreparedCall prepared, AttentionOptions options, int calls)
    {
        long start = Stopwatch.GetTimestamp();
        for (int i = 0; i < calls; i++) prepared.Invoke(options);
        return Stopwatch.GetElapsedTime(start);
    }
}

/// <summary>The result of a benchmark, as text and as JSON.</summary>
internal sealed record BenchResult(
    CallShape Shape, AttentionExplanation Explanation, bool RowInvariant, int Trials, double Milliseconds, double MedianMilliseconds, Ceilings? Ceilings)
{
    public double GigaflopsPerSecond => Explanation.FloatingPointOperations / 1e6 / Milliseconds;

    public double GigabytesPerSecond => Explanation.KeyValueBytes / 1e6 / Milliseconds;

    /// <summary>Share of the machine's roofline; null where it was not measured.</summary>
    public double? Share => Ceilings?.Share(Explanation.FloatingPointOperations, Explanation.KeyValueBytes, Milliseconds);

    public void Print(ToolConsole console)
    {
        string heads = $"{Shape.QueryHeads} query heads, {Shape.KeyValueHeads} key/value heads, dim {Shape.KeyDim}{(Shape.ValueDim == Shape.KeyDim ? "" : $" and {Shape.ValueDim}")}";
        List<(string, string)> facts =
        [
            ("shape", $"batch {Shape.Batch}, {Shape.QueryLength} queries, {Shape.KeyLength} keys, {heads}"),
            ("types", $"query {Shape.QueryType.ShortName()}, key and value {Shape.KeyValueType.ShortName()}"),
            ("mask", Shape.MaskText),
            ("cache", Shape.BlockSize is int block ? $"paged, blocks of {block}" : "contiguous"),
            ("backend", Explanation.Backend),
            ("kernel", Explanation.Kernel + (RowInvariant ? ", row-invariant" : "")),
            ("instruction set", $"{Explanation.InstructionSet}"),
            ("threads", Explanation.Threads.ToString()),
            ("time", $"{Milliseconds:0.####} ms best, {MedianMilliseconds:0.####} ms median of {Trials} trials"),
            ("arithmetic", $"{GigaflopsPerSecond:0.0} GFLOP/s best, {GigaflopsPerSecond * Milliseconds / MedianMilliseconds:0.0} GFLOP/s median"),
            ("keys and values", $"{GigabytesPerSecond:0.00} GB/s best"),
        ];
        if (Ceilings is Ceilings ceilings)
        {
            string limit = ceilings.IsArithmeticBound(Explanation.FloatingPointOperations, Explanation.KeyValueBytes) ? "multiply-adds allow" : "memory allows";
            facts.Add(("ceilings", $"{ceilings.GigaflopsPerSecond:0.0} GFLOP/s of multiply-adds, {ceilings.GigabytesPerSecond:0.0} GB/s read from memory, measured now"));
            facts.Add(("share", $"{Share:0.0 %} of what {limit}"));
        }

        console.Facts([.. facts]);
    }

    public string ToJson()
    {
        using var stream = new MemoryStream();
        using (var json = new Utf8JsonWriter(stream))
        {
            json.WriteStartObject();
            json.WriteString("backend", Explanation.Backend);
            json.WriteString("kernel", Explanation.Kernel);
            json.WriteString("instruction_set", $"{Explanation.InstructionSet}");
            json.WriteNumber("threads", Explanation.Threads);
            json.WriteNumber("batch", Shape.Batch);
            json.WriteNumber("query_heads", Shape.QueryHeads);
            json.WriteNumber("kv_heads", Shape.KeyValueHeads);
            json.WriteNumber("query_length", Shape.QueryLength);
            json.WriteNumber("key_length", Shape.KeyLength);
            json.WriteNumber("dim", Shape.KeyDim);
            json.WriteNumber("value_dim", Shape.ValueDim);
            json.WriteString("dtype", Shape.QueryType.ShortName());
            json.WriteString("kv_dtype", Shape.KeyValueType.ShortName());
            json.WriteString("mask", Shape.MaskText);
            if (Shape.BlockSize is int block) json.WriteNumber("paged", block);
            else json.WriteNull("paged");
            json.WriteBoolean("row_invariant", RowInvariant);
            json.WriteNumber("trials", Trials);
            json.WriteNumber("milliseconds", Math.Round(Milliseconds, 6));
            json.WriteNumber("milliseconds_median", Math.Round(MedianMilliseconds, 6));
            json.WriteNumber("gflops", Math.Round(GigaflopsPerSecond, 3));
            json.WriteNumber("gbps", Math.Round(GigabytesPerSecond, 3));
            if (Ceilings is not null)
            {
                json.WriteNumber("ceiling_gflops", Math.Round(Ceilings.GigaflopsPerSecond, 3));
                json.WriteNumber("ceiling_gbps", Math.Round(Ceilings.GigabytesPerSecond, 3));
                json.WriteNumber("ceiling_share", Math.Round(Share!.Value, 4));
            }

            json.WriteEndObject();
        }

        return Encoding.UTF8.GetString(stream.GetBuffer(), 0, (int)stream.Length);
    }
}
