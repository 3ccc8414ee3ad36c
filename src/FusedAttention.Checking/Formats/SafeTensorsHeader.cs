using System.Collections.Immutable;
using System.Text.Json;

namespace FusedAttention.Checking.Formats;

/// <summary>One tensor of a safetensors header: its declared type, shape and place in the data section.</summary>
public readonly record struct SafeTensorsEntry(string Name, string TypeName, ImmutableArray<long> Shape, long Begin, long End)
{
    public TensorElementType? ElementType => TensorElementTypes.FromSafeTensorsName(TypeName);
}

/// <summary>The JSON header of a safetensors file, checked against the length of the file before anything else is read or allocated.</summary>
public sealed class SafeTensorsHeader
{
    /// <summary>As in the format's own reader: a larger header is an attack or an accident.</summary>
    public const int MaxLength = 100_000_000;

    private readonly string _fileName;
    private readonly List<SafeTensorsEntry> _entries = [];
    private readonly Dictionary<string, string> _metadata = new(StringComparer.Ordinal);
    private readonly HashSet<string> _names = new(StringComparer.Ordinal);

    private SafeTensorsHeader(string fileName) => _fileName = fileName;

    public IReadOnlyList<SafeTensorsEntry> Entries => _entries;

    public IReadOnlyDictionary<string, string> Metadata => _metadata;

    /// <summary>Reads a header and proves that its tensors fill <paramref name="dataLength"/> bytes without gap or overlap.</summary>
    public static SafeTensorsHeader Parse(string fileName, ReadOnlySpan<byte> json, long dataLength)
    {
        var header = new SafeTensorsHeader(fileName);
        try
        {
            var reader = new Utf8JsonReader(json);
            header.ReadTensors(ref reader);
        }
        catch (JsonException e)
        {
            throw new TensorFileException(fileName, $"the header is not JSON: {e.Message}", e);
        }
        catch (InvalidOperationException e)
        {
            // The JSON reader's answer to a string that is not UTF-8 or holds half a surrogate pair.
            throw new TensorFileException(fileName, "a string in the header is not valid text.", e);
        }

        header.CheckPlaces(dataLength);
        return header;
    }

    private void ReadTensors(ref Utf8JsonReader reader)
    {
        if (!reader.Read() || reader.TokenType != JsonTokenType.StartObject) throw Bad($"the header starts with {reader.TokenType}; expected a JSON object.");
        while (reader.Read() && reader.TokenType == JsonTokenType.PropertyName)
        {
            string name = reader.GetString()!;
            if (!_names.Add(name)) throw Bad($"the header has '{name}' twice.");
            reader.Read();
            if (reader.TokenType != JsonTokenType.StartObject) throw Bad($"'{name}' in the header is {reader.TokenType}; expected a JSON object.");
            if (name.Equals("__metadata__", StringComparison.Ordinal)) ReadMetadata(ref reader);
            else ReadTensor(ref reader, name);
        }

        // Spaces may follow, to align the data; the reader itself refuses anything else.
        if (reader.Read()) throw Bad("the header goes on after its JSON object.");
    }

    private void ReadMetadata(ref Utf8JsonReader reader)
    {
        while (reader.Read() && reader.TokenType == JsonTokenType.PropertyName)
        {
            string name = reader.GetString()!;
            reader.Read();
            if (reader.TokenType != JsonTokenType.String) throw Bad($"metadata '{name}' is {reader.TokenType}; expected a string.");
            if (!_metadata.TryAdd(name, reader.GetString()!)) throw Bad($"the metadata has '{name}' twice.");
        }
    }

    private void ReadTensor(ref Utf8JsonReader reader, string name)
    {
        string? type = null;
        List<long>? shape = null;
        List<long>? offsets = null;
        while (reader.Read() && reader.TokenType == JsonTokenType.PropertyName)
        {
            string field = reader.GetString()!;
            reader.Read();
            switch (field)
            {
                case "dtype" when type is null:
                    type = reader.TokenType == JsonTokenType.String ? reader.GetString()! : throw Bad($"dtype of tensor '{name}' is {reader.TokenType}; expected a string.");
                    break;
                case "shape" when shape is null:
                    shape = ReadSizes(ref reader, name, field);
                    break;
                case "data_offsets" when offsets is null:
                    offsets = ReadSizes(ref reader, name, field);
                    break;
                case "dtype" or "shape" or "data_offsets":
                    throw Bad($"tensor '{name}' has {field} twice.");
                default:
                    throw Bad($"tensor '{name}' has the unknown field '{field}'; expected dtype, shape and data_offsets.");
            }
        }

        if (type is null || shape is null || offsets is null)
            throw Bad($"tensor '{name}' has no {(type is null ? "dtype" : shape is null ? "shape" : "data_offsets")}.");
        if (offsets.Count != 2) throw Bad($"tensor '{name}' has {offsets.Count} data_offsets; expected 2.");
        _entries.Add(new(name, type, [.. shape], offsets[0], offsets[1]));
    }

    private List<long> ReadSizes(ref Utf8JsonReader reader, string name, string field)
    {
        if (reader.TokenType != JsonTokenType.StartArray) throw Bad($"{field} of tensor '{name}' is {reader.TokenType}; expected an array.");
        var sizes = new List<long>();
        while (reader.Read() && reader.TokenType != JsonTokenType.EndArray)
        {
            if (reader.TokenType != JsonTokenType.Number || !reader.TryGetInt64(out long size) || size < 0)
                throw Bad($"{field}[{sizes.Count}] of tensor '{name}' is not a whole number from 0 to 2^63.");
            sizes.Add(size);
        }

        return sizes;
    }

    private void CheckPlaces(long dataLength)
    {
        foreach (SafeTensorsEntry entry in _entries)
        {
            if (entry.End < entry.Begin || entry.End > dataLength)
                throw Bad($"tensor '{entry.Name}' lies at bytes {entry.Begin} to {entry.End} of a data section of {dataLength} bytes.");
            long elements = LoadedTensor.TryCountElements(entry.Shape.AsSpan())
                ?? throw Bad($"tensor '{entry.Name}' has the shape {LoadedTensor.Describe(entry.Shape.AsSpan())}: more elements than a file can hold.");
            // A type that this tool does not know may be in the file as long as nobody asks for it.
            if (entry.ElementType is not TensorElementType type) continue;
            if ((Int128)elements * type.SizeInBytes() != entry.End - entry.Begin)
                throw Bad($"tensor '{entry.Name}' {LoadedTensor.Describe(entry.Shape.AsSpan())} of {entry.TypeName} needs {(Int128)elements * type.SizeInBytes()} bytes, but its data_offsets span {entry.End - entry.Begin}.");
        }

        long next = 0;
        foreach (SafeTensorsEntry entry in _entries.OrderBy(e => e.Begin).ThenBy(e => e.End))
        {
            if (entry.Begin != next)
                throw Bad($"tensor '{entry.Name}' begins at byte {entry.Begin} of the data, which {(entry.Begin < next ? "overlaps the one before it" : "leaves a gap")}: expected {next}.");
            next = entry.End;
        }

        if (next != dataLength) throw Bad($"has {dataLength} bytes of data, but its tensors take {next}.");
    }

    private TensorFileException Bad(string problem) => new(_fileName, problem);
}
