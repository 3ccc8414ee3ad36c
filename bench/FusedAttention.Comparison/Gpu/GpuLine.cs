using System.Text.Json;
using System.Text.Json.Serialization;

namespace FusedAttention.Comparison.Gpu;

internal enum GpuStatus
{
    Timed,

    /// <summary>A form of ours that the plan of the call does not take.</summary>
    Skipped,

    /// <summary>A peer does not have the case.</summary>
    Refused,

    /// <summary>The output cannot be right, or a call of ours failed.</summary>
    Wrong,
}

/// <summary>
/// A line that bench/gpu/compare.py writes: of the machine, with which a run begins, or of one contender in one row. Fields that no table shows are not read, so that they are not kept either; names are those of the
/// file in this language's case.
/// </summary>
internal sealed record GpuLine
{
    public const string MachineSuite = "machine";

    /// <summary>A run that hung: what it was doing.</summary>
    public const string FailureSuite = "failure";

    public const string Ours = "ours";
    public const string OursBuiltIn = "ours built-in";

    /// <summary>Of an error and a time: more are noise.</summary>
    private const int Digits = 5;

    private static readonly JsonSerializerOptions Format = new()
    {
        PropertyNamingPolicy = JsonNamingPolicy.SnakeCaseLower,
        DefaultIgnoreCondition = JsonIgnoreCondition.WhenWritingNull,
        Encoder = System.Text.Encodings.Web.JavaScriptEncoder.UnsafeRelaxedJsonEscaping, // a file, not part of a page
        NumberHandling = JsonNumberHandling.AllowNamedFloatingPointLiterals,
        Converters = { new JsonStringEnumConverter(JsonNamingPolicy.SnakeCaseLower), new RoundedConverter() },
    };

    public required string Suite { get; init; }

    // Of a machine.
    public string? Device { get; init; }

    public string? Gpu { get; init; }

    public string? Torch { get; init; }

    public string? Cuda { get; init; }

    public int? Cudnn { get; init; }

    public string? Started { get; init; }

    public int? Multiprocessors { get; init; }

    public string? Driver { get; init; }

    public string? Commit { get; init; }

    // Of a contender in a row.
    public string? Row { get; init; }

    public string? Type { get; init; }

    public int? Dim { get; init; }

    public int? ValueDim { get; init; }

    public int? Keys { get; init; }

    public string? Mask { get; init; }

    /// <summary>Tokens in a block of a paged cache.</summary>
    public int? Block { get; init; }

    public string? Contender { get; init; }

    /// <summary>A form of ours, or the layout of the tensors.</summary>
    public string? Variant { get; init; }

    public GpuStatus? Status { get; init; }

    public string? Note { get; init; }

    /// <summary>The row without its feature.</summary>
    public bool? Baseline { get; init; }

    public double? Error { get; init; }

    public int? Launches { get; init; }

    public double? BurstUs { get; init; }

    public double? SustainedUs { get; init; }

    public double? BurstTflops { get; init; }

    public double? SustainedTflops { get; init; }

    public double? BurstTbps { get; init; }

    public double? SustainedTbps { get; init; }

    public double? LoadSeconds { get; init; }

    /// <summary>Until the result of a first call was there.</summary>
    public double? FirstSeconds { get; init; }

    public double? HostUs { get; init; }

    public double? HostBestUs { get; init; }

    [JsonIgnore]
    public bool IsOurs => string.Equals(Contender, Ours, StringComparison.Ordinal);

    [JsonIgnore]
    public bool IsTimed => Status == GpuStatus.Timed;

    public static GpuLine Parse(string json)
    {
        GpuLine line = JsonSerializer.Deserialize<GpuLine>(json, Format) ?? throw new JsonException("It is null.");
        if (string.Equals(line.Suite, MachineSuite, StringComparison.Ordinal)) return line.Gpu is null || line.Started is not { Length: >= 16 } ? throw new JsonException("It names no GPU or no time.") : line;
        return line.Row is null || line.Contender is null || line.Variant is null || line.Status is null ? throw new JsonException("A row, a contender, a variant or a status is missing.") : line;
    }

    public override string ToString() => JsonSerializer.Serialize(this, Format);

    /// <summary>Rounds when reading too: a report is the same from the lines of a run and from those that are kept.</summary>
    private sealed class RoundedConverter : JsonConverter<double>
    {
        public override double Read(ref Utf8JsonReader reader, Type typeToConvert, JsonSerializerOptions options)
            => reader.TokenType != JsonTokenType.String ? Round(reader.GetDouble())
                : double.TryParse(reader.GetString(), out double number) ? number
                : throw new JsonException($"{reader.GetString()} is no number.");

        public override void Write(Utf8JsonWriter writer, double value, JsonSerializerOptions options)
        {
            if (double.IsFinite(value)) writer.WriteNumberValue(value);
            else writer.WriteStringValue(value.ToString());
        }

        private static double Round(double value) => double.Parse(value.ToString($"G{Digits}"));
    }
}
