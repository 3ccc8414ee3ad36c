using System.Text;
using System.Text.Json;
using FusedAttention.Checking.Formats;
using FusedAttention.Checking.Measurement;
using FusedAttention.Checking.Problems;

namespace FusedAttention.Cli.Commands;

/// <summary>The result of a benchmark, as text and as JSON.</summary>
internal sealed record BenchResult(
    CallShape Shape, AttentionExplanation Explanation, bool RowInvariant, string Clock, CallTimes Times, Ceilings? Ceilings)
{
    public double Milliseconds => Times.Best;

    public double MedianMilliseconds => Times.Median;

    public double GigaflopsPerSecond => Explanation.FloatingPointOperations / 1e6 / Milliseconds;

    public double GigabytesPerSecond => Explanation.KeyValueBytes / 1e6 / Milliseconds;

    /// <summary>GB/s at which the device reads memory, measured in the same run; null where that was not measured.</summary>
    public double? ReadRate { get; init; }

    /// <summary>Share of the machine's roofline; null where it was not measured.</summary>
    public double? Share => Ceilings?.Share(Explanation.FloatingPointOperations, Explanation.KeyValueBytes, Milliseconds);

    public void Print(ToolConsole console)
    {
        string heads = $"{Shape.QueryHeads} query heads, {Shape.KeyValueHeads} key/value heads, dim {Shape.KeyDim}{(Shape.ValueDim == Shape.KeyDim ? "" : $" and {Shape.ValueDim}")}";
        List<(string, string)> facts =
        [
            ("shape", $"batch {Shape.Batch}, {Shape.QueryLength} queries, {Shape.KeyLength} keys, {heads}"),
            ("types", $"query {Shape.QueryType.ShortName()}, key and value {Shape.KeyValueType.ShortName()}"),
            ("mask", OptionText.Of(Shape.Mask)),
            .. Shape.Score is string score ? [("score", score)] : Array.Empty<(string, string)>(),
            ("cache", Shape.BlockSize is int block ? $"paged, blocks of {block}" : "contiguous"),
            .. ExplanationText.Facts(Explanation, RowInvariant),
            ("time", $"{Milliseconds:0.####} ms best, {MedianMilliseconds:0.####} ms median of {Times.Trials} trials, {Clock}"),
            ("arithmetic", $"{GigaflopsPerSecond:0.0} GFLOP/s best, {GigaflopsPerSecond * Milliseconds / MedianMilliseconds:0.0} GFLOP/s median"),
            ("keys and values", $"{GigabytesPerSecond:0.00} GB/s best{(ReadRate is double rate ? $", {GigabytesPerSecond / rate:0.0 %} of the {rate:0} GB/s at which the device reads memory, measured now" : "")}"),
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
            json.WriteString("device", Explanation.Device);
            json.WriteString("instruction_set", Explanation.InstructionSet?.ToString());
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
            json.WriteString("mask", OptionText.Of(Shape.Mask));
            if (Shape.Score is string score) json.WriteString("score", score);
            if (Shape.BlockSize is int block) json.WriteNumber("paged", block);
            else json.WriteNull("paged");
            json.WriteBoolean("row_invariant", RowInvariant);
            json.WriteString("clock", Clock);
            json.WriteNumber("trials", Times.Trials);
            json.WriteNumber("milliseconds", Math.Round(Milliseconds, 6));
            json.WriteNumber("milliseconds_median", Math.Round(MedianMilliseconds, 6));
            json.WriteNumber("gflops", Math.Round(GigaflopsPerSecond, 3));
            json.WriteNumber("gbps", Math.Round(GigabytesPerSecond, 3));
            if (ReadRate is double rate) json.WriteNumber("read_gbps", Math.Round(rate, 3));
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
