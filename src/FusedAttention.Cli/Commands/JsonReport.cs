using System.CommandLine;
using System.Text;
using System.Text.Json;
using FusedAttention.Checking.Conformance;
using FusedAttention.Checking.Formats;
using FusedAttention.Checking.Oracle;
using FusedAttention.Checking.Problems;

namespace FusedAttention.Cli.Commands;

/// <summary>Results as one line of JSON, for programs: what <c>--json</c> prints in place of text. Names are those that <c>bench --json</c> has.</summary>
internal static class JsonReport
{
    public static Option<bool> NewOption() => new("--json") { Description = "Print one line of JSON and nothing else.", Arity = ArgumentArity.Zero };

    public static string OfRun(CallInputs call, AttentionExplanation explanation, TimeSpan best, TimeSpan first, int count, string? output, Verdict? verdict) => Write(json =>
    {
        WriteCall(json, call);
        WriteExplanation(json, explanation);
        json.WriteNumber("milliseconds", best.TotalMilliseconds);
        json.WriteNumber("milliseconds_first", first.TotalMilliseconds);
        json.WriteNumber("calls", count);
        json.WriteString("output_file", output);
        WriteVerdict(json, verdict);
    });

    public static string OfVerify(CallInputs call, string result, Verdict verdict) => Write(json =>
    {
        WriteCall(json, call);
        json.WriteString("result", result);
        WriteVerdict(json, verdict);
    });

    public static string OfConform(FolderOutcome outcome) => Write(json =>
    {
        json.WriteNumber("passed", outcome.Passed);
        json.WriteNumber("failed", outcome.Failed);
        json.WriteNumber("skipped", outcome.Skipped.Count);
        json.WriteStartArray("failures");
        foreach (CaseOutcome failed in outcome.Outcomes.Where(static o => !o.Passed))
        {
            json.WriteStartObject();
            json.WriteString("case", failed.Case);
            json.WriteString("failure", failed.Failure);
            json.WriteEndObject();
        }

        json.WriteEndArray();
    });

    public static string OfExplain(AttentionExplanation explanation) => Write(json =>
    {
        WriteExplanation(json, explanation);
        json.WriteString("details", OptionText.InToolWords(explanation.Details));
    });

    public static string OfQuantize(string output, QuantizedPart key, QuantizedPart value) => Write(json =>
    {
        json.WriteString("kv_dtype", key.Type.ShortName());
        json.WriteString("output_file", output);
        foreach ((string name, QuantizedPart part) in new[] { ("key_error", key), ("value_error", value) })
        {
            json.WriteStartObject(name);
            WriteNumber(json, "max_absolute", part.MaxAbsolute);
            WriteNumber(json, "rms", part.RootMeanSquare);
            WriteNumber(json, "rms_relative", part.Relative);
            json.WriteNumber("not_finite", part.NotFinite);
            json.WriteEndObject();
        }
    });

    public static string OfSource(IEnumerable<int> headDims, IEnumerable<string> files) => Write(json =>
    {
        json.WriteStartArray("head_dims");
        foreach (int dim in headDims) json.WriteNumberValue(dim);
        json.WriteEndArray();
        json.WriteStartArray("output_files");
        foreach (string file in files) json.WriteStringValue(file);
        json.WriteEndArray();
    });

    /// <summary>Names and values, under names that programs take: small letters, digits and underscores.</summary>
    public static string OfFacts(IEnumerable<(string Name, string Value)> facts) => Write(json =>
    {
        foreach ((string name, string value) in facts) json.WriteString(string.Join('_', name.ToLowerInvariant().Split([' ', '-', '.'], StringSplitOptions.RemoveEmptyEntries)), value);
    });

    private static void WriteCall(Utf8JsonWriter json, CallInputs call)
    {
        foreach ((string name, LoadedTensor tensor) in new[] { ("query", call.Query), ("key", call.Key), ("value", call.Value) })
        {
            json.WriteStartArray(name);
            foreach (long length in tensor.Shape) json.WriteNumberValue(length);
            json.WriteEndArray();
        }

        json.WriteString("dtype", call.Query.ElementType.ShortName());
        json.WriteString("kv_dtype", call.Key.ElementType.ShortName());
        json.WriteString("attention", SemanticsOptions.Describe(call));
    }

    private static void WriteExplanation(Utf8JsonWriter json, AttentionExplanation explanation)
    {
        json.WriteString("backend", explanation.Backend);
        json.WriteString("kernel", explanation.Kernel);
        json.WriteString("device", explanation.Device);
        json.WriteString("instruction_set", explanation.InstructionSet?.ToString());
        json.WriteString("machine_code", explanation.MachineCode is { } code ? OptionText.InToolWords(code) : null);
        json.WriteNumber("threads", explanation.Threads);
        json.WriteNumber("work_items", explanation.WorkItems);
        json.WriteNumber("floating_point_operations", explanation.FloatingPointOperations);
        json.WriteNumber("kv_bytes", explanation.KeyValueBytes);
        json.WriteNumber("scratch_bytes", explanation.ScratchBytes);
    }

    private static void WriteVerdict(Utf8JsonWriter json, Verdict? verdict)
    {
        if (verdict is null)
        {
            json.WriteNull("verified");
            return;
        }

        json.WriteBoolean("verified", verdict.Passed);
        WriteErrors(json, "output_error", verdict.Output);
        if (verdict.LogSumExp is not null) WriteErrors(json, "lse_error", verdict.LogSumExp);
        json.WriteString("verdict", verdict.Line);
    }

    private static void WriteErrors(Utf8JsonWriter json, string name, ErrorSummary errors)
    {
        json.WriteStartObject(name);
        WriteNumber(json, "max_absolute", errors.MaxAbsolute);
        WriteNumber(json, "rms", errors.RootMeanSquare);
        WriteNumber(json, "worst", errors.WorstError);
        WriteNumber(json, "limit", errors.WorstLimit);
        json.WriteEndObject();
    }

    /// <summary>JSON has neither NaN nor infinities: null.</summary>
    private static void WriteNumber(Utf8JsonWriter json, string name, double number)
    {
        if (double.IsFinite(number)) json.WriteNumber(name, number);
        else json.WriteNull(name);
    }

    private static string Write(Action<Utf8JsonWriter> write)
    {
        using var stream = new MemoryStream();
        using (var json = new Utf8JsonWriter(stream))
        {
            json.WriteStartObject();
            write(json);
            json.WriteEndObject();
        }

        return Encoding.UTF8.GetString(stream.GetBuffer(), 0, (int)stream.Length);
    }
}
