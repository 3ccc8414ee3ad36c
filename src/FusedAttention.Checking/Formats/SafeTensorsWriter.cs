using System.Buffers.Binary;
using System.Text.Json;

namespace FusedAttention.Checking.Formats;

/// <summary>Writer of safetensors. Metadata is sorted by name, so the same tensors give the same bytes.</summary>
public static class SafeTensorsWriter
{
    public static void Write(string path, IReadOnlyList<LoadedTensor> tensors, IReadOnlyDictionary<string, string>? metadata = null)
        => WholeFile.Write(path, stream => Write(stream, tensors, metadata));

    public static void Write(Stream stream, IReadOnlyList<LoadedTensor> tensors, IReadOnlyDictionary<string, string>? metadata = null)
    {
        using var json = new MemoryStream();
        using (var writer = new Utf8JsonWriter(json))
        {
            writer.WriteStartObject();
            if (metadata is { Count: > 0 }) WriteMetadata(writer, metadata);
            long offset = 0;
            foreach (LoadedTensor tensor in tensors) offset = WriteEntry(writer, tensor, offset);
            writer.WriteEndObject();
        }

        // Spaces up to a multiple of 8, so that a reader which maps the file finds the data aligned.
        while (json.Length % 8 != 0) json.WriteByte((byte)' ');
        Span<byte> prefix = stackalloc byte[8];
        BinaryPrimitives.WriteInt64LittleEndian(prefix, json.Length);
        stream.Write(prefix);
        stream.Write(json.GetBuffer().AsSpan(0, (int)json.Length));
        foreach (LoadedTensor tensor in tensors) stream.Write(tensor.Bytes);
    }

    private static void WriteMetadata(Utf8JsonWriter writer, IReadOnlyDictionary<string, string> metadata)
    {
        writer.WriteStartObject("__metadata__");
        foreach ((string name, string value) in metadata.OrderBy(m => m.Key, StringComparer.Ordinal)) writer.WriteString(name, value);
        writer.WriteEndObject();
    }

    private static long WriteEntry(Utf8JsonWriter writer, LoadedTensor tensor, long offset)
    {
        writer.WriteStartObject(tensor.Name);
        writer.WriteString("dtype", tensor.ElementType.SafeTensorsName());
        writer.WriteStartArray("shape");
        foreach (long length in tensor.Shape) writer.WriteNumberValue(length);
        writer.WriteEndArray();
        writer.WriteStartArray("data_offsets");
        writer.WriteNumberValue(offset);
        writer.WriteNumberValue(offset + tensor.Bytes.Length);
        writer.WriteEndArray();
        writer.WriteEndObject();
        return offset + tensor.Bytes.Length;
    }
}
