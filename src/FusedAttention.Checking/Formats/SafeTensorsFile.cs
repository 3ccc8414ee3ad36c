using System.Buffers.Binary;

namespace FusedAttention.Checking.Formats;

/// <summary>
/// Reader of safetensors: eight bytes of little-endian header length, a JSON header, then the raw data
/// (github.com/huggingface/safetensors, "Format").
/// </summary>
public sealed class SafeTensorsFile : TensorFile
{
    private readonly FileStream _stream;
    private readonly SafeTensorsHeader _header;
    private readonly long _dataStart;

    public SafeTensorsFile(string path)
        : base(path)
    {
        _stream = new FileStream(path, FileMode.Open, FileAccess.Read, FileShare.Read, bufferSize: 0);
        try
        {
            long length = _stream.Length;
            if (length < 8) throw Bad($"is {length} bytes long; a safetensors file starts with 8 bytes of header length.");
            Span<byte> prefix = stackalloc byte[8];
            _stream.ReadExactly(prefix);
            ulong headerLength = BinaryPrimitives.ReadUInt64LittleEndian(prefix);
            if (headerLength > (ulong)(length - 8)) throw Bad($"declares a header of {headerLength} bytes, but only {length - 8} follow.");
            if (headerLength > SafeTensorsHeader.MaxLength) throw Bad($"declares a header of {headerLength} bytes; the format allows {SafeTensorsHeader.MaxLength}.");
            byte[] json = new byte[headerLength];
            _stream.ReadExactly(json);
            _dataStart = 8 + (long)headerLength;
            _header = SafeTensorsHeader.Parse(Path, json, length - _dataStart);
            Names = [.. _header.Entries.Select(e => e.Name)];
        }
        catch
        {
            _stream.Dispose();
            throw;
        }
    }

    public override IReadOnlyList<string> Names { get; }

    public override IReadOnlyDictionary<string, string> Metadata => _header.Metadata;

    public override LoadedTensor Read(string name)
    {
        int index = _header.Entries.Select(e => e.Name).ToList().IndexOf(name);
        if (index < 0) throw Missing(name);
        SafeTensorsEntry entry = _header.Entries[index];
        if (entry.ElementType is not TensorElementType type)
            throw Bad($"tensor '{name}' has the element type {entry.TypeName}; this tool reads F32, F16, BF16, F64, I32, I64, BOOL, U8, I8 and F8_E4M3.");
        if (entry.End - entry.Begin > MaxTensorBytes) throw Bad($"tensor '{name}' has {entry.End - entry.Begin} bytes; this tool reads tensors up to {MaxTensorBytes}.");
        byte[] data = GC.AllocateUninitializedArray<byte>((int)(entry.End - entry.Begin));
        _stream.Position = _dataStart + entry.Begin;
        try
        {
            _stream.ReadExactly(data);
        }
        catch (EndOfStreamException e)
        {
            throw new TensorFileException(Path, $"ended while tensor '{name}' was read: it has been cut since it was opened.", e);
        }

        CheckBooleans(Path, name, type, data);
        return new(name, type, entry.Shape, data);
    }

    protected override void Dispose(bool disposing) => _stream.Dispose();
}
