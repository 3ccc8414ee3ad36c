using System.Text.Encodings.Web;
using System.Text.Json;
using System.Text.Json.Serialization;

namespace FusedAttention.Comparison.Reporting;

/// <summary>All records of a run, for programs, and for making the other forms of a report again.</summary>
internal static class JsonReport
{
    private static readonly JsonSerializerOptions Options = new()
    {
        WriteIndented = true,
        Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping, // a file, not part of a page: apostrophes stay readable
        PropertyNamingPolicy = JsonNamingPolicy.CamelCase,
        DefaultIgnoreCondition = JsonIgnoreCondition.WhenWritingNull,
        NumberHandling = JsonNumberHandling.AllowNamedFloatingPointLiterals, // an error may be NaN
        Converters = { new JsonStringEnumConverter(JsonNamingPolicy.CamelCase), new CaseConverter() },
    };

    public static string Write(ComparisonReport report) => JsonSerializer.Serialize(report, Options).ReplaceLineEndings("\n") + "\n";

    /// <exception cref="JsonException">The text is no report.</exception>
    public static ComparisonReport Read(string json) => JsonSerializer.Deserialize<ComparisonReport>(json, Options) ?? throw new JsonException("The file has no report.");

    /// <summary>A case as its numbers, without what can be computed from them.</summary>
    private sealed class CaseConverter : JsonConverter<Cases.AttentionCase>
    {
        public override Cases.AttentionCase Read(ref Utf8JsonReader reader, Type typeToConvert, JsonSerializerOptions options)
        {
            using JsonDocument document = JsonDocument.ParseValue(ref reader);
            JsonElement value = document.RootElement;
            int Number(string name) => value.GetProperty(name).GetInt32();
            return new(
                value.GetProperty("kind").GetString() is "prefill" ? Cases.CaseKind.Prefill : Cases.CaseKind.Decode,
                value.GetProperty("type").GetString() switch
                {
                    "fp32" => AttentionElementType.Float32,
                    "fp16" => AttentionElementType.Float16,
                    "int8" => AttentionElementType.Int8,
                    "q8_0" => AttentionElementType.Q8Block,
                    _ => AttentionElementType.BFloat16,
                },
                Number("queryHeads"), Number("keyValueHeads"), Number("dim"), Number("queries"), Number("keys"), value.GetProperty("causal").GetBoolean());
        }

        public override void Write(Utf8JsonWriter writer, Cases.AttentionCase value, JsonSerializerOptions options)
        {
            writer.WriteStartObject();
            writer.WriteString("name", value.Name);
            writer.WriteString("kind", value.Kind == Cases.CaseKind.Prefill ? "prefill" : "decode");
            writer.WriteString("type", value.TypeName);
            writer.WriteNumber("queryHeads", value.QueryHeads);
            writer.WriteNumber("keyValueHeads", value.KeyValueHeads);
            writer.WriteNumber("dim", value.Dim);
            writer.WriteNumber("queries", value.Queries);
            writer.WriteNumber("keys", value.Keys);
            writer.WriteBoolean("causal", value.IsCausal);
            writer.WriteEndObject();
        }
    }
}
