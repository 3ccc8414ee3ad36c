using System.CommandLine;
using FusedAttention.Cli.Calls;
using FusedAttention.Cli.Formats;
using FusedAttention.Cli.Verification;

namespace FusedAttention.Cli.Commands;

/// <summary><c>verify</c>: recomputes attention in double precision and compares the library's result, or one from a file.</summary>
internal sealed class VerifyCommand
{
    private const string Description = """
        Recompute attention in double precision and report the errors of the library's result, or of a result from a file.

        A result passes when every element is within its limit, which follows from the element type (unit roundoff u), the largest value max|v| of the
        head and the size S of the row's scores (norms of query and key, weighted mean of |score|):
          output       max|v| (2u + 2^-24 (16 + 4S)),  u = 2^-24 for fp32, 2^-11 for fp16, 2^-8 for bf16
          log-sum-exp  1e-5 + 1e-6 |lse| + 2^-22 S

        Examples:
          fused-attention verify qkv.safetensors --causal --alibi
          fused-attention verify qkv.safetensors --causal --output-file o.safetensors
        """;

    private readonly InputOptions _input = new();
    private readonly SemanticsOptions _semantics = new();
    private readonly ExecutionOptions _execution = new();
    private readonly Option<string?> _outputFile = new("--output-file") { Description = "File with the output to check; the library is not run.", HelpName = "FILE" };
    private readonly Option<string?> _outputName = new("--output-name") { Description = "Name of the output in a file; 'o' or 'output' if not given.", HelpName = "NAME" };
    private readonly Option<string?> _lseName = new("--lse-name") { Description = "Name of the log-sum-exp in a file; 'lse', if it is there, if not given.", HelpName = "NAME" };
    private readonly ToolConsole _console;

    private VerifyCommand(ToolConsole console) => _console = console;

    public static Command Create(ToolConsole console)
    {
        var verify = new VerifyCommand(console);
        var command = new Command("verify", Description);
        verify._input.AddTo(command);
        verify._semantics.AddTo(command);
        verify._execution.AddTo(command);
        foreach (Option option in (ReadOnlySpan<Option>)[verify._outputFile, verify._outputName, verify._lseName]) command.Add(option);
        return command.WithAction(console, verify.Execute);
    }

    private int Execute(ParseResult parsed, CancellationToken cancellation)
    {
        AttentionOptions run = _execution.Read(parsed, cancellation);
        using var files = new InputFiles();
        AttentionCall call = _input.Load(parsed, files, heads => _semantics.Read(parsed, run, files, heads));

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
            PreparedCall prepared = PreparedCall.Create(call);
            prepared.Poison();
            prepared.Invoke(call.Options);
            (output, logSumExp) = (prepared.Output, prepared.LogSumExp);
            AttentionExplanation explanation = prepared.Explain(call.Options);
            source = $"computed here ({explanation.Backend}, {explanation.Kernel}, {explanation.InstructionSet}, {explanation.Threads} threads)";
        }

        _console.Facts(
            ("query", $"{LoadedTensor.Describe(call.Query.Shape.AsSpan())} {call.Query.ElementType.ShortName()}"),
            ("key", $"{LoadedTensor.Describe(call.Key.Shape.AsSpan())} {call.Key.ElementType.ShortName()}"),
            ("value", $"{LoadedTensor.Describe(call.Value.Shape.AsSpan())} {call.Value.ElementType.ShortName()}"),
            ("attention", SemanticsOptions.Describe(call)),
            ("result", source));
        Verdict verdict = Verifier.Verify(call, output, logSumExp, _console);
        Report(verdict);
        return verdict.Passed ? ExitCode.Success : ExitCode.VerificationFailed;
    }

    private (LoadedTensor Output, LoadedTensor? LogSumExp) LoadResults(ParseResult parsed, TensorFile file, AttentionCall call)
    {
        string? name = parsed.GetValue(_outputName) is string given ? file.Find(given) : file.Find("o") ?? file.Find("output") ?? (file.Names.Count == 1 ? file.Names[0] : null);
        if (name is null) throw new UsageException($"{file.FileName} has no tensor '{parsed.GetValue(_outputName) ?? "o"}', but {string.Join(", ", file.Names)}: name one with --output-name.");
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
