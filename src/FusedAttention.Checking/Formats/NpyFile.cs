namespace FusedAttention.Checking.Formats;

/// <summary>A .npy file: one tensor, which takes the name of the file.</summary>
public sealed class NpyFile : TensorFile
{
    private readonly FileStream _stream;
    private readonly NpyHeader _header;
    private readonly long _dataStart;

    public NpyFile(string path)
        : base(path)
    {
        _stream = new FileStream(path, FileMode.Open, FileAccess.Read, FileShare.Read);
        try
        {
            _header = NpyHeader.Read(_stream, Path);
            _dataStart = _stream.Position;
            CheckLength(Path, _header, _stream.Length - _dataStart);
        }
        catch
        {
            _stream.Dispose();
            throw;
        }

        Names = [System.IO.Path.GetFileNameWithoutExtension(path)];
    }

    public override IReadOnlyList<string> Names { get; }

    /// <summary>The only tensor.</summary>
    public LoadedTensor Read() => Read(Names[0]);

    public override LoadedTensor Read(string name)
    {
        if (!name.Equals(Names[0], StringComparison.Ordinal)) throw Missing(name);
        _stream.Position = _dataStart;
        return ReadData(_stream, Path, name, _header);
    }

    /// <summary>Reads one whole array from a stream that holds nothing else and whose length is known: a member of a .npz archive.</summary>
    internal static LoadedTensor ReadWhole(Stream stream, long length, string fileName, string name)
    {
        using var counted = new CountingStream(stream);
        NpyHeader header = NpyHeader.Read(counted, fileName);
        CheckLength(fileName, header, length - counted.Count);
        return ReadData(counted, fileName, name, header);
    }

    public static void Write(string path, LoadedTensor tensor)
    {
        // The header first: it refuses types that the format lacks before the file is made.
        byte[] header = NpyHeader.Write(tensor);
        WholeFile.Write(path, stream =>
        {
            stream.Write(header);
            stream.Write(tensor.Bytes);
        });
    }

    protected override void Dispose(bool disposing) => _stream.Dispose();

    private static void CheckLength(string fileName, NpyHeader header, long available)
    {
        string shape = LoadedTensor.Describe(header.Shape.AsSpan());
        if (header.DataBytes != available)
            throw new TensorFileException(fileName, $"declares {shape} of {header.ElementType}, {header.DataBytes} bytes of data, but has {available}.");
        if (header.DataBytes > MaxTensorBytes)
            throw new TensorFileException(fileName, $"has {header.DataBytes} bytes of data; this tool reads tensors up to {MaxTensorBytes}.");
    }

    private static LoadedTensor ReadData(Stream stream, string fileName, string name, NpyHeader header)
    {
        byte[] data = GC.AllocateUninitializedArray<byte>((int)header.DataBytes);
        int read = stream.ReadAtLeast(data, data.Length, throwOnEndOfStream: false);
        if (read != data.Length) throw new TensorFileException(fileName, $"ended after {read} of {data.Length} bytes of data.");
        CheckBooleans(fileName, name, header.ElementType, data);
        return new(name, header.ElementType, header.Shape, data);
    }

    /// <summary>A forward-only stream that knows how far it has been read; an inflating stream does not.</summary>
    private sealed class CountingStream(Stream inner) : Stream
    {
        public long Count { get; private set; }

        public override bool CanRead => true;

        public override bool CanSeek => false;

        public override bool CanWrite => false;

        public override long Length => throw new NotSupportedException();

        public override long Position
        {
            get => throw new NotSupportedException();
            set => throw new NotSupportedException();
        }

        public override int Read(byte[] buffer, int offset, int count) => Read(buffer.AsSpan(offset, count));

        public override int Read(Span<byte> buffer)
        {
            int read = inner.Read(buffer);
            Count += read;
            return read;
        }

        public override void Flush()
        {
        }

        public override long Seek(long offset, SeekOrigin origin) => throw new NotSupportedException();

        public override void SetLength(long value) => throw new NotSupportedException();

        public override void Write(byte[] buffer, int offset, int count) => throw new NotSupportedException();
    }
}
