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
          fused-attention run qkv.safetensors --causal --kv-dtype int8 --output o.safetensors
          fused-attention run qkv.safetensors --causal --backend metal --output o.safetensors
        """;

    /// <summary>A call shorter than this is repeated for its time: the first pays for the JIT compiler and cold caches.</summary>
    private static readonly TimeSpan TimingBudget = TimeSpan.FromMilliseconds(300);

    /// <summary>Calls there are at least, whatever they take: on a busy machine the first, compiling included, passed for the time of the call, 70 times too long.</summary>
    private const int LeastCalls = 3;

    /// <summary>A first call as long as this is called once: compiling is some percent of it.</summary>
    private static readonly TimeSpan LongCall = TimeSpan.FromSeconds(5);

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

    private readonly Option<bool> _json = JsonReport.NewOption();
    private readonly ToolConsole _console;

    private RunCommand(ToolConsole console, BackendCatalog backends) => (_console, _execution) = (console, new(console, backends));

    public static Command Create(ToolConsole console, BackendCatalog backends)
    {
        var run = new RunCommand(console, backends);
        var command = new ToolCommand("run", Description);
        run._input.AddTo(command);
        run._semantics.AddTo(command);
        run._execution.AddTo(command);
        foreach (Option option in (ReadOnlySpan<Option>)[run._output, run._lse, run._verify, run._noVerify, run._json]) command.Add(option);
        return command.WithAction(console, backends, run.Execute);
    }

    private int Execute(ParseResult parsed, CancellationToken cancellation)
    {
        if (parsed.GetValue(_verify) && parsed.GetValue(_noVerify)) throw new UsageException("--verify and --no-verify exclude each other.");
        (BackendDevice device, RunOptions run) = _execution.Read(parsed, cancellation);
        using var files = new InputFiles();
        CallInputs call = _input.Load(parsed, files, heads => _semantics.Read(parsed, run, files, heads));
        string? outputPath = parsed.GetValue(_output);
        CheckOutput(outputPath, parsed.GetValue(_lse), call, files);

        using PreparedCall prepared = device.Backend.Prepare(call);
        AttentionExplanation explanation = device.Backend.Explain(call, run);
        bool isJson = parsed.GetValue(_json), withLogSumExp = parsed.GetValue(_lse);
        (string Name, string Value)[] inputs = Inputs(call, explanation);
        if (!isJson) _console.Facts(inputs);
        prepared.Poison();
        RunTimes times = Time(prepared, run);
        if (outputPath is not null) Write(outputPath, prepared, withLogSumExp);
        if (!isJson) Report(call, explanation, times, outputPath, withLogSumExp, inputs.Max(static fact => fact.Name.Length));

        bool isQuick = explanation.FloatingPointOperations / 2 < Verifier.QuickMultiplyAdds, isVerified = !parsed.GetValue(_noVerify) && (isQuick || parsed.GetValue(_verify));
        Verdict? verdict = isVerified ? Verifier.Verify(call, prepared.Output, prepared.LogSumExp, _console, run.CancellationToken) : null;
        if (isJson) _console.Line(JsonReport.OfRun(call, explanation, times.Best, times.First, times.Count, outputPath, verdict));
        else if (verdict is not null) _console.Line(verdict.Line);
        else if (!parsed.GetValue(_noVerify)) _console.Line($"not verified: {explanation.FloatingPointOperations / 2:0.0e+0} multiply-adds in double precision take a while; --verify does it");
        return verdict is null or { Passed: true } ? ExitCode.Success : ExitCode.VerificationFailed;
    }

    /// <summary>Refuses an output file that could not be written, before the work is done.</summary>
    private static void CheckOutput(string? path, bool withLogSumExp, CallInputs call, InputFiles files)
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
        files.CheckOutput($"--output {path}", path);
    }

    private static RunTimes Time(PreparedCall prepared, RunOptions run)
    {
        TimeSpan first = TimeOnce(prepared, run);
        if (first >= LongCall) return new(first, first, 1);
        TimeSpan best = TimeSpan.MaxValue, spent = first;
        int count = 1;
        for (; count < LeastCalls || (spent < TimingBudget && count < 1000); count++)
        {
            TimeSpan time = TimeOnce(prepared, run);
            spent += time;
            if (time < best) best = time;
        }

        return new(best, first, count);
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

    /// <summary>What is known before the call: a long one is not to look hung.</summary>
    private static (string Name, string Value)[] Inputs(CallInputs call, AttentionExplanation explanation) =>
    [
        ("query", $"{LoadedTensor.Describe(call.Query.Shape.AsSpan())} {call.Query.ElementType.ShortName()}"),
        ("key", $"{LoadedTensor.Describe(call.Key.Shape.AsSpan())} {call.Key.ElementType.ShortName()}"),
        ("value", $"{LoadedTensor.Describe(call.Value.Shape.AsSpan())} {call.Value.ElementType.ShortName()}"),
        ("attention", SemanticsOptions.Describe(call)),
        .. ExplanationText.Facts(explanation),
        ("peak scratch", Units.Megabytes(explanation.ScratchBytes)),
    ];

    private void Report(CallInputs call, AttentionExplanation explanation, RunTimes times, string? outputPath, bool withLogSumExp, int nameWidth)
    {
        string timing = times.Count == 1 ? "the first call and the only one, compiling included" : $"best of {times.Count} calls, first {times.First.TotalMilliseconds:0.###} ms";
        string written = withLogSumExp ? "tensors o, lse" : "tensor o";
        _console.Facts(
        [
            ("time".PadRight(nameWidth), $"{times.Best.TotalMilliseconds:0.###} ms ({timing})"),
            ("arithmetic", $"{Units.Operations(explanation.FloatingPointOperations)}, {(times.Best > TimeSpan.Zero ? explanation.FloatingPointOperations / 1e9 / times.Best.TotalSeconds : 0):0.0} GFLOP/s"),
            ("output", $"{LoadedTensor.Describe(call.OutputShape)}{(outputPath is null ? ", not written (--output FILE)" : $" to {outputPath}{(HasExtension(outputPath, ".npy") ? "" : $", {written}")}")}"),
        ]);
    }

    /// <summary>How long a call took.</summary>
    /// <param name="Best">The best of all but the first, where there is more than one.</param>
    /// <param name="First">The first, compiling included.</param>
    /// <param name="Count">How many there were.</param>
    private readonly record struct RunTimes(TimeSpan Best, TimeSpan First, int Count);
}
