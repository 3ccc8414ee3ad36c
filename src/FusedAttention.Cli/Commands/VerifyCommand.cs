using System.CommandLine;
using FusedAttention.Checking.Backends;
using FusedAttention.Checking.Conformance;
using FusedAttention.Checking.Formats;
using FusedAttention.Checking.Oracle;
using FusedAttention.Checking.Problems;
using FusedAttention.Cli.Backends;

namespace FusedAttention.Cli.Commands;

/// <summary><c>verify</c>: recomputes attention in double precision and compares the library's result, or one from a file; without files, a backend is put through the checks that come with the tool.</summary>
internal sealed class VerifyCommand
{
    private const string Description = """
        Recompute in double precision and report the errors.

        The result is the library's, or one from a file. It passes when every element is within its limit, which follows from the element type (unit
        roundoff u), the largest value max|v| of the head and the size S of the row's scores (norms of query and key, weighted mean of |score|):
          output       max|v| (2u + 2^-24 (16 + 4S))
          log-sum-exp  1e-5 + 1e-6 |lse| + 2^-22 S
          u            2^-24 for fp32, 2^-11 for fp16, 2^-8 for bf16

        Without files the backend itself is verified: problems that reach every kernel, element type, feature and layout, then the reference cases of DIRECTORY,
        or of the clone that the current folder lies in. A summary to put into an issue ends the report.

        Examples:
          fused-attention verify qkv.safetensors --causal --alibi
          fused-attention verify qkv.safetensors --causal --output-file o.safetensors
          fused-attention verify --backend cuda
          fused-attention verify --backend metal
          fused-attention verify --backend metal tests/data/reference
          fused-attention verify --backend metal --compile-only
        """;

    private readonly InputOptions _input = new();
    private readonly SemanticsOptions _semantics = new();
    private readonly ExecutionOptions _execution;
    private readonly Option<string?> _outputFile = new("--output-file") { Description = "File with the output to check; the library is not run.", HelpName = "FILE" };
    private readonly Option<string?> _outputName = new("--output-name") { Description = "Name of the output in a file; 'o' or 'output' if not given.", HelpName = "NAME" };
    private readonly Option<string?> _lseName = new("--lse-name") { Description = "Name of the log-sum-exp in a file; 'lse', if it is there, if not given.", HelpName = "NAME" };
    private readonly Option<string?> _only = new("--only") { Description = "Without files: run only the checks that have this in their name.", HelpName = "TEXT" };
    private readonly Option<bool> _compileOnly = new("--compile-only") { Description = "Without files: have the device's compiler make kernels of every kind, and run none.", Arity = ArgumentArity.Zero };
    private readonly Option<bool> _anyDevice = new("--any-device") { Description = "Without files: take a device as well that the kernels were not made for; the checks decide.", Arity = ArgumentArity.Zero };
    private readonly Option<bool> _json = JsonReport.NewOption();
    private readonly ToolConsole _console;

    private VerifyCommand(ToolConsole console, BackendCatalog backends) => (_console, _execution) = (console, new(console, backends));

    public static Command Create(ToolConsole console, BackendCatalog backends)
    {
        var verify = new VerifyCommand(console, backends);
        var command = new ToolCommand("verify", Description);
        verify._input.AddTo(command);
        verify._semantics.AddTo(command);
        verify._execution.AddTo(command);
        foreach (Option option in (ReadOnlySpan<Option>)[verify._outputFile, verify._outputName, verify._lseName, verify._only, verify._compileOnly, verify._anyDevice, verify._json]) command.Add(option);
        return command.WithAction(console, backends, verify.Execute);
    }

    private int Execute(ParseResult parsed, CancellationToken cancellation)
    {
        bool isCompileOnly = parsed.GetValue(_compileOnly), takesAny = parsed.GetValue(_anyDevice);
        (BackendDevice device, RunOptions run) = _execution.Read(parsed, cancellation, takesAny || isCompileOnly);
        string[] given = _input.Files(parsed);
        bool isCall = _input.HasOptions(parsed) || _semantics.IsGiven(parsed) || parsed.GetValue(_outputFile) is not null;
        if (isCompileOnly && !isCall && given.Length == 0) return Compile(device, cancellation);
        if (isCompileOnly) throw new UsageException($"{_compileOnly.Name} computes nothing: it goes with no file and no option of a call.");
        if (!isCall && (given.Length == 0 || (given.Length == 1 && Directory.Exists(given[0])))) return VerifyBackend(parsed, device, run, given);
        if (parsed.GetValue(_only) is not null) throw new UsageException("--only chooses among the checks that run without files.");
        return VerifyCall(parsed, device.Backend, run);
    }

    private int VerifyBackend(ParseResult parsed, BackendDevice device, RunOptions run, string[] given)
    {
        string? only = parsed.GetValue(_only);
        if (parsed.GetValue(_json)) throw new UsageException("--json goes with the check of a call; a backend's checks end with a summary to put into an issue ('conform --json' runs a folder).");
        string? references = given is [string folder] ? folder : ReferenceFolder.FindAbove(Environment.CurrentDirectory);
        if (given.Length > 0 && only is not null) throw new UsageException("--only chooses among the checks that come with the tool; 'conform' runs a folder alone.");
        if (given.Length > 0 && ReferenceFolder.Files(references!).Length == 0) throw new UsageException($"There is no .safetensors file under {references}.");
        return new SelfCheckReport(_console, device, run).Run(only, references);
    }

    private int Compile(BackendDevice device, CancellationToken cancellation)
    {
        if (device.Compile is null) throw new UsageException($"{_compileOnly.Name}: {device.Backend.Title} compiles nothing.");
        _console.Line(device.Backend.Title);
        (int compiled, int failed) = (0, 0);
        foreach (CompiledKernel kernel in device.Compile())
        {
            cancellation.ThrowIfCancellationRequested();
            _console.Line($"{(kernel.IsCompiled ? "" : "FAILED ")}{kernel.Name}: {kernel.Result}");
            if (kernel.IsCompiled) compiled++;
            else failed++;
        }

        _console.Line($"{compiled} compiled, {failed} failed");
        return failed == 0 && compiled > 0 ? ExitCode.Success : ExitCode.VerificationFailed;
    }

    private int VerifyCall(ParseResult parsed, Backend backend, RunOptions run)
    {
        using var files = new InputFiles();
        CallInputs call = _input.Load(parsed, files, heads => _semantics.Read(parsed, run, files, heads));

        LoadedTensor output;
        LoadedTensor? logSumExp;
        string source;
        if (parsed.GetValue(_outputFile) is string path)
        {
            using var results = new InputFiles();
            (output, logSumExp) = LoadResults(parsed, results.Open(path), call);
            source = path;
        }
        else
        {
            using PreparedCall prepared = backend.Prepare(call);
            prepared.Poison();
            prepared.Invoke(call.Options, run);
            (output, logSumExp) = (prepared.Output, prepared.LogSumExp);
            AttentionExplanation explanation = backend.Explain(call, run);
            source = $"computed here ({ExplanationText.Line(explanation)})";
        }

        bool isJson = parsed.GetValue(_json);
        if (!isJson) PrintCall(call, source);
        Verdict verdict = Verifier.Verify(call, output, logSumExp, _console, run.CancellationToken);
        if (isJson) _console.Line(JsonReport.OfVerify(call, source, verdict));
        else Report(verdict);
        return verdict.Passed ? ExitCode.Success : ExitCode.VerificationFailed;
    }

    private void PrintCall(CallInputs call, string source) =>
        _console.Facts(
            ("query", $"{LoadedTensor.Describe(call.Query.Shape.AsSpan())} {call.Query.ElementType.ShortName()}"),
            ("key", $"{LoadedTensor.Describe(call.Key.Shape.AsSpan())} {call.Key.ElementType.ShortName()}"),
            ("value", $"{LoadedTensor.Describe(call.Value.Shape.AsSpan())} {call.Value.ElementType.ShortName()}"),
            ("attention", SemanticsOptions.Describe(call)),
            ("result", source));

    private (LoadedTensor Output, LoadedTensor? LogSumExp) LoadResults(ParseResult parsed, TensorFile file, CallInputs call)
    {
        string? name = parsed.GetValue(_outputName) is string given ? file.Find(given) : file.Find("o") ?? file.Find("output") ?? (file.Names.Count == 1 ? file.Names[0] : null);
        if (name is null) throw new UsageException($"{file.Path} has no tensor '{parsed.GetValue(_outputName) ?? "o"}': it {Names.Of(file.Names)}. --output-name NAME takes another one.");
        LoadedTensor output = Shaped(file.Read(name), call.OutputShape);
        if (parsed.GetValue(_lseName) is string lse) return (output, Shaped(file.Read(file.Find(lse) ?? lse), call.LogSumExpShape));
        return (output, file.Find("lse") is string found ? Shaped(file.Read(found), call.LogSumExpShape) : null);
    }

    private static LoadedTensor Shaped(LoadedTensor tensor, long[] shape) => tensor.ElementType.IsFloatingPoint() && tensor.Shape.AsSpan().SequenceEqual(shape)
        ? tensor
        : throw new UsageException($"{tensor} must hold floating-point numbers in the shape {LoadedTensor.Describe(shape)} to be the result of this call.");

    private void Report(Verdict verdict)
    {
        var rows = new List<string[]> { Row("output", verdict.Output) };
        if (verdict.LogSumExp is not null) rows.Add(Row("log-sum-exp", verdict.LogSumExp));
        _console.Table(["result", "elements", "max abs", "rms", "max relative", "closest to limit", "its limit", "passed"], rows);
        _console.Line(verdict.Line);

        static string[] Row(string name, ErrorSummary error) =>
        [
            name, error.Count.ToString(), OptionText.Error(error.MaxAbsolute), OptionText.Error(error.RootMeanSquare), OptionText.Error(error.MaxRelative),
            OptionText.Error(error.WorstError), OptionText.Error(error.WorstLimit), error.Passed ? "yes" : "NO",
        ];
    }
}
