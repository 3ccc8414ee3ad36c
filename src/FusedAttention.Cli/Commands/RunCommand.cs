using System.CommandLine;
using System.Diagnostics;
using FusedAttention.Checking.Backends;
using FusedAttention.Checking.Formats;
using FusedAttention.Checking.Measurement;
using FusedAttention.Checking.Problems;
using FusedAttention.Cli.Backends;

namespace FusedAttention.Cli.Commands;

/// <summary><c>run</c>: attention on tensors from files, with its result written to a file and checked.</summary>
internal sealed class RunCommand
{
    private const string Description = """
        Run attention on tensors from files.

        Examples:
          fused-attention run qkv.safetensors --causal --output o.safetensors
          fused-attention run q.npy k.npy v.npy --window 256,0 --causal --output o.npy
          fused-attention run qkv.npz --alibi --soft-cap 30 --sinks sink --bias bias --lse --output o.safetensors
          fused-attention run qkv.safetensors --causal --backend metal --output o.safetensors
        """;

    /// <summary>A call shorter than this is repeated for its time: the first pays for the JIT compiler and cold caches.</summary>
    private static readonly TimeSpan TimingBudget = TimeSpan.FromMilliseconds(300);

    private readonly InputOptions _input = new();
    private readonly SemanticsOptions _semantics = new();
    private readonly ExecutionOptions _execution;
    private readonly Option<string?> _output = new("--output", "-o") { Description = "File to write the output to: .safetensors (tensor 'o') or .npy.", HelpName = "FILE" };
    private readonly Option<bool> _lse = new("--lse") { Description = "Write the log-sum-exp too, as tensor 'lse' of the .safetensors output.", Arity = ArgumentArity.Zero };
    private readonly Option<bool> _verify = new("--verify") { Description = "Check the result in double precision, however long that takes.", Arity = ArgumentArity.Zero };

    private readonly Option<bool> _noVerify = new("--no-verify")
    {
        Description = "Do not check the result. Without either option it is checked if that takes a second or two at most (2e9 multiply-adds).",
        Arity = ArgumentArity.Zero,
    };

    private readonly ToolConsole _console;

    private RunCommand(ToolConsole console, BackendCatalog backends) => (_console, _execution) = (console, new(console, backends));

    public static Command Create(ToolConsole console, BackendCatalog backends)
    {
        var run = new RunCommand(console, backends);
        var command = new Command("run", Description);
        run._input.AddTo(command);
        run._semantics.AddTo(command);
        run._execution.AddTo(command);
        foreach (Option option in (ReadOnlySpan<Option>)[run._output, run._lse, run._verify, run._noVerify]) command.Add(option);
        return command.WithAction(console, backends, run.Execute);
    }

    private int Execute(ParseResult parsed, CancellationToken cancellation)
    {
        if (parsed.GetValue(_verify) && parsed.GetValue(_noVerify)) throw new UsageException("--verify and --no-verify exclude each other.");
        (BackendDevice device, RunOptions run) = _execution.Read(parsed, cancellation);
        using var files = new InputFiles();
        CallInputs call = _input.Load(parsed, files, heads => _semantics.Read(parsed, run, files, heads));
        string? outputPath = parsed.GetValue(_output);
        CheckOutput(outputPath, parsed.GetValue(_lse), call);

        using PreparedCall prepared = device.Backend.Prepare(call);
        AttentionExplanation explanation = device.Backend.Explain(call, run);
        prepared.Poison();
        (TimeSpan best, TimeSpan first, int times) = Time(prepared, run);
        if (outputPath is not null) Write(outputPath, prepared, parsed.GetValue(_lse));
        Report(call, explanation, best, first, times, outputPath, parsed.GetValue(_lse));

        bool quick = explanation.FloatingPointOperations / 2 < Verifier.QuickMultiplyAdds;
        if (parsed.GetValue(_noVerify)) return ExitCode.Success;
        if (!quick && !parsed.GetValue(_verify))
        {
            _console.Line($"not verified: {explanation.FloatingPointOperations / 2:0.0e+0} multiply-adds in double precision take a while; --verify does it");
            return ExitCode.Success;
        }

        Verdict verdict = Verifier.Verify(call, prepared.Output, prepared.LogSumExp, _console, run.CancellationToken);
        _console.Line(verdict.Line);
        return verdict.Passed ? ExitCode.Success : ExitCode.VerificationFailed;
    }

    /// <summary>Refuses an output file that could not be written, before the work is done.</summary>
    private static void CheckOutput(string? path, bool withLogSumExp, CallInputs call)
    {
        if (path is null)
        {
            if (withLogSumExp) throw new UsageException("--lse writes the log-sum-exp beside the output: give --output FILE.safetensors.");
            return;
        }

        bool npy = HasExtension(path, ".npy");
        if (!npy && !HasExtension(path, ".safetensors")) throw new UsageException($"--output {path} must end in .safetensors or .npy.");
        if (npy && withLogSumExp) throw new UsageException("A .npy file holds one tensor: write to .safetensors for --lse.");
        if (npy && call.Query.ElementType.NpyDescription() is null) throw new UsageException("The .npy format has no bfloat16: write to .safetensors, or convert with --dtype.");
        string folder = Path.GetDirectoryName(Path.GetFullPath(path))!;
        if (!Directory.Exists(folder)) throw new UsageException($"--output {path}: there is no folder {folder}.");
    }

    private static (TimeSpan Best, TimeSpan First, int Times) Time(PreparedCall prepared, RunOptions run)
    {
        TimeSpan first = TimeOnce(prepared, run);
        TimeSpan best = first;
        int times = 1;
        for (TimeSpan spent = first; spent < TimingBudget && times < 1000; times++)
        {
            TimeSpan time = TimeOnce(prepared, run);
            spent += time;
            if (time < best) best = time;
        }

        return (best, first, times);
    }

    private static TimeSpan TimeOnce(PreparedCall prepared, RunOptions run)
    {
        long start = Stopwatch.GetTimestamp();
        prepared.Invoke(prepared.Call.Options, run);
        return Stopwatch.GetElapsedTime(start);
    }

    private static void Write(string path, PreparedCall prepared, bool withLogSumExp)
    {
        if (HasExtension(path, ".npy")) NpyFile.Write(path, prepared.Output);
        else SafeTensorsWriter.Write(path, withLogSumExp ? [prepared.Output, prepared.LogSumExp] : [prepared.Output]);
    }

    private static bool HasExtension(string path, string extension) => Path.GetExtension(path).Equals(extension, StringComparison.OrdinalIgnoreCase);

    private void Report(CallInputs call, AttentionExplanation explanation, TimeSpan best, TimeSpan first, int times, string? outputPath, bool withLogSumExp)
    {
        string timing = times == 1 ? "one call" : $"best of {times} calls, first {first.TotalMilliseconds:0.###} ms";
        string written = withLogSumExp ? "tensors o, lse" : "tensor o";
        double gflop = explanation.FloatingPointOperations / 1e9;
        _console.Facts(
        [
            ("query", $"{LoadedTensor.Describe(call.Query.Shape.AsSpan())} {call.Query.ElementType.ShortName()}"),
            ("key", $"{LoadedTensor.Describe(call.Key.Shape.AsSpan())} {call.Key.ElementType.ShortName()}"),
            ("value", $"{LoadedTensor.Describe(call.Value.Shape.AsSpan())} {call.Value.ElementType.ShortName()}"),
            ("attention", SemanticsOptions.Describe(call)),
            .. ExplanationText.Facts(explanation),
            ("time", $"{best.TotalMilliseconds:0.###} ms ({timing})"),
            ("arithmetic", $"{gflop:0.###} GFLOP, {(best > TimeSpan.Zero ? gflop / best.TotalSeconds : 0):0.0} GFLOP/s"),
            ("peak scratch", Units.Megabytes(explanation.ScratchBytes)),
            ("output", $"{LoadedTensor.Describe(call.OutputShape)}{(outputPath is null ? ", not written (--output FILE)" : $" to {outputPath}{(HasExtension(outputPath, ".npy") ? "" : $", {written}")}")}"),
        ]);
    }
}
