using System.CommandLine;
using FusedAttention.Checking.Backends;
using FusedAttention.Checking.Measurement;
using FusedAttention.Checking.Problems;
using FusedAttention.Cli.Backends;

namespace FusedAttention.Cli.Commands;

/// <summary><c>bench</c>: the speed of a call of some shape on random numbers.</summary>
internal sealed class BenchCommand
{
    private const string Description = """
        Time attention on random tensors of a shape.
        Best and median of many short trials after a warm-up.
        GFLOP/s count the multiply-adds of allowed (query, key) pairs only; GB/s count keys and values once.
        On a GPU, without a shape: a table of shapes, with what to compare them with.

        Examples:
          fused-attention bench --query-length 2048 --dim 128 --mask causal --threads 1
          fused-attention bench --query-heads 32 --kv-heads 8 --query-length 1 --key-length 32768 --dtype fp16 --json
          fused-attention bench --batch 8 --query-length 1 --key-length 4096 --paged 16 --kv-dtype bf16
          fused-attention bench --query-length 2048 --threads 1 --ceilings
          fused-attention bench --query-length 2048 --mask causal --threads 1 --score t5
          fused-attention bench --query-heads 32 --kv-heads 8 --query-length 1 --key-length 32768 --dtype fp16 --kv-dtype int8 --threads 1
          fused-attention bench --backend cuda
          fused-attention bench --backend metal
          fused-attention bench --backend metal --only "prefill 1k"
        """;

    /// <summary>Seconds for one shape, and for each of a table.</summary>
    private const double SecondsForOne = 2, SecondsForEach = 0.5;

    /// <summary>Enough to find the best of several ways of reading a gigabyte.</summary>
    private static readonly TimeSpan CeilingTime = TimeSpan.FromSeconds(3);

    private readonly ShapeOptions _shape = new();
    private readonly ExecutionOptions _execution;
    private readonly Option<double?> _seconds = new Option<double?>("--seconds")
    {
        Description = $"Time to measure a shape for, at least three trials; {SecondsForOne} if not given, {SecondsForEach} for each of a table.",
        HelpName = "S",
    }.Seconds();

    private readonly Option<bool> _json = new("--json") { Description = "Print one line of JSON a shape and nothing else.", Arity = ArgumentArity.Zero };
    private readonly Option<string?> _only = new("--only") { Description = "Of a GPU's table, the rows that have this in their name.", HelpName = "TEXT" };
    private readonly Option<bool> _ceilings = new("--ceilings")
    {
        Description = "CPU: measure what this machine can do at most too (multiply-adds, reading memory) and print the share of it.",
        Arity = ArgumentArity.Zero,
    };

    private readonly ToolConsole _console;

    private BenchCommand(ToolConsole console, BackendCatalog backends) => (_console, _execution) = (console, new(console, backends));

    public static Command Create(ToolConsole console, BackendCatalog backends)
    {
        var bench = new BenchCommand(console, backends);
        var command = new ToolCommand("bench", Description);
        bench._shape.AddTo(command);
        bench._execution.AddTo(command);
        foreach (Option option in (ReadOnlySpan<Option>)[bench._seconds, bench._json, bench._only, bench._ceilings]) command.Add(option);
        return command.WithAction(console, backends, bench.Execute);
    }

    private int Execute(ParseResult parsed, CancellationToken cancellation)
    {
        double? seconds = parsed.GetValue(_seconds);
        CallShape shape = _shape.Read(parsed);
        (BackendDevice device, RunOptions run) = _execution.Read(parsed, cancellation);
        bool isTable = !_shape.IsGiven(parsed) && device.Provider.TimedShapes.Count > 0;
        if (parsed.GetValue(_only) is not null && !isTable) throw new UsageException("--only chooses among the rows of a GPU's table, which has shapes of its own.");
        if (parsed.GetValue(_ceilings) && !device.Provider.IsHost) throw new UsageException("--ceilings measures the CPU and does not go with another backend.");
        return isTable
            ? RunTable(parsed, device, run, TimeSpan.FromSeconds(seconds ?? SecondsForEach))
            : RunShape(parsed, shape, device.Backend, run, TimeSpan.FromSeconds(seconds ?? SecondsForOne));
    }

    private int RunTable(ParseResult parsed, BackendDevice device, RunOptions run, TimeSpan time)
    {
        string? only = parsed.GetValue(_only);
        TimedShape[] rows = [.. device.Provider.TimedShapes.Where(row => only is null || row.Name.Contains(only, StringComparison.OrdinalIgnoreCase))];
        if (rows.Length == 0) throw new UsageException($"--only '{only}': no row is called so.");
        return BenchTable.Run(_console, device, run, rows, time, parsed.GetValue(_json)) ? ExitCode.Success : ExitCode.BadInput;
    }

    private int RunShape(ParseResult parsed, CallShape shape, Backend backend, RunOptions run, TimeSpan time)
    {
        AttentionExplanation explanation = backend.Explain(shape, run);
        using PreparedCall prepared = backend.Prepare(shape.CreateCall(run));

        CallTimes times = _console.WithClock("measuring", expect => CallTimes.Measure(prepared, run, time, expect));
        Ceilings? ceilings = null;
        if (parsed.GetValue(_ceilings))
        {
            if (explanation.InstructionSet is not { } instructionSet || !MultiplyAddPeak.IsSupported(instructionSet)) throw new UsageException("--ceilings needs fused multiply-adds, which this machine lacks.");
            ceilings = _console.WithProgress("ceilings", 1, _ => Ceilings.Measure(instructionSet, Math.Max(1, explanation.Threads), CeilingTime));
        }

        var result = new BenchResult(shape, explanation, run.RowInvariant, backend.Clock, times, ceilings) { ReadRate = backend.MeasureReadRate() };
        if (parsed.GetValue(_json)) _console.Line(result.ToJson());
        else result.Print(_console);
        return ExitCode.Success;
    }
}
