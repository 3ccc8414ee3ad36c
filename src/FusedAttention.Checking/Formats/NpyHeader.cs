using System.Buffers.Binary;
using System.Collections.Immutable;
using System.Globalization;
using System.Text;

namespace FusedAttention.Checking.Formats;

/// <summary>
/// The header of a .npy array, versions 1 to 3 (numpy.org, "A simple file format for NumPy arrays"): magic, version, header length, and a Python
/// dictionary literal with exactly the keys descr, fortran_order and shape.
/// </summary>
public sealed record NpyHeader(TensorElementType ElementType, ImmutableArray<long> Shape, long DataBytes)
{
    private const int MaxLength = 1 << 20;

    private static ReadOnlySpan<byte> Magic => [0x93, (byte)'N', (byte)'U', (byte)'M', (byte)'P', (byte)'Y'];

    /// <summary>Reads a header; the stream is left at the first byte of data.</summary>
    public static NpyHeader Read(Stream stream, string fileName)
    {
        Span<byte> start = stackalloc byte[8];
        ReadExactly(stream, start, fileName, "its first 8 bytes");
        if (!start[..6].SequenceEqual(Magic)) throw new TensorFileException(fileName, "does not start with the .npy signature.");
        int major = start[6];
        if (major is < 1 or > 3) throw new TensorFileException(fileName, $"has .npy version {major}.{start[7]}; this tool reads 1, 2 and 3.");

        Span<byte> lengthBytes = stackalloc byte[major == 1 ? 2 : 4];
        ReadExactly(stream, lengthBytes, fileName, "its header length");
        uint length = major == 1 ? BinaryPrimitives.ReadUInt16LittleEndian(lengthBytes) : BinaryPrimitives.ReadUInt32LittleEndian(lengthBytes);
        if (length > MaxLength) throw new TensorFileException(fileName, $"declares a header of {length} bytes; more than {MaxLength} is not plausible.");
        byte[] header = new byte[length];
        ReadExactly(stream, header, fileName, $"its header of {length} bytes");
        return Parse((major == 3 ? Encoding.UTF8 : Encoding.Latin1).GetString(header), fileName);
    }

    /// <summary>The bytes of a version 1 header, padded so that the data starts at a multiple of 64.</summary>
    public static byte[] Write(LoadedTensor tensor)
    {
        string description = tensor.ElementType.NpyDescription()
            ?? throw new ArgumentException($"The .npy format has no element type {tensor.ElementType}: write {tensor.Name} to a .safetensors file or convert it.", nameof(tensor));
        // Python writes a tuple of one with a comma: (3,).
        string shape = string.Join(", ", tensor.Shape) + (tensor.Rank == 1 ? "," : "");
        string text = $"{{'descr': '{description}', 'fortran_order': False, 'shape': ({shape}), }}";
        int length = ((10 + text.Length + 1 + 63) / 64 * 64) - 10;
        byte[] header = new byte[10 + length];
        Magic.CopyTo(header);
        header[6] = 1;
        BinaryPrimitives.WriteUInt16LittleEndian(header.AsSpan(8), (ushort)length);
        Encoding.Latin1.GetBytes(text.PadRight(length - 1) + "\n", header.AsSpan(10));
        return header;
    }

    private static NpyHeader Parse(string text, string fileName)
    {
        var literal = new Literal(text, fileName);
        string? description = null;
        bool? fortranOrder = null;
        List<long>? shape = null;
        literal.Expect('{');
        while (!literal.TryTake('}'))
        {
            string key = literal.String();
            literal.Expect(':');
            switch (key)
            {
                case "descr" when description is null: description = literal.TypeDescription(); break;
                case "fortran_order" when fortranOrder is null: fortranOrder = literal.Boolean(); break;
                case "shape" when shape is null: shape = literal.Tuple(); break;
                default: throw new TensorFileException(fileName, $"has the key '{key}' in its header; expected descr, fortran_order and shape, once each.");
            }

            if (!literal.TryTake(',') && !literal.Sees('}')) throw literal.Unexpected("',' or '}'");
        }

        literal.ExpectEnd();
        if (description is null || fortranOrder is null || shape is null)
            throw new TensorFileException(fileName, $"has no {(description is null ? "descr" : shape is null ? "shape" : "fortran_order")} in its header.");
        TensorElementType type = TensorElementTypes.FromNpyDescription(description) ?? throw new TensorFileException(fileName, UnknownType(description));
        if (fortranOrder.Value && shape.Count > 1)
            throw new TensorFileException(fileName, "is stored in Fortran (column-major) order; save it with numpy.ascontiguousarray first.");
        long? elements = LoadedTensor.TryCountElements([.. shape]);
        if (elements is not long count || (Int128)count * type.SizeInBytes() > long.MaxValue)
            throw new TensorFileException(fileName, $"has the shape {LoadedTensor.Describe([.. shape])}: more elements than a file can hold.");
        return new(type, [.. shape], count * type.SizeInBytes());
    }

    private static string UnknownType(string description) => description switch
    {
        ['>', ..] => $"has the big-endian element type {description}; save it as little-endian first.",
        "<V2" or "|V2" or "V2" => $"has the raw element type {description}, perhaps bfloat16, which the .npy format does not have; use .safetensors.",
        _ => $"has the element type {description}; this tool reads <f2, <f4, <f8, <i4, <i8, |b1 and |u1.",
    };

    private static void ReadExactly(Stream stream, Span<byte> buffer, string fileName, string what)
    {
        int read = stream.ReadAtLeast(buffer, buffer.Length, throwOnEndOfStream: false);
        if (read != buffer.Length) throw new TensorFileException(fileName, $"ended after {read} of {buffer.Length} bytes of {what}.");
    }

    /// <summary>The little of Python's literal syntax that numpy writes.</summary>
    private sealed class Literal(string text, string fileName)
    {
        private int _at;

        public bool Sees(char expected)
        {
            while (_at < text.Length && text[_at] is ' ' or '\n' or '\t' or '\r') _at++;
            return _at < text.Length && text[_at] == expected;
        }

        public bool TryTake(char expected)
        {
            if (!Sees(expected)) return false;
            _at++;
            return true;
        }

        public void Expect(char expected)
        {
            if (!TryTake(expected)) throw Unexpected($"'{expected}'");
        }

        public void ExpectEnd()
        {
            if (Sees('\0') || _at < text.Length) throw Unexpected("the end");
        }

        public string String()
        {
            char quote = Sees('"') ? '"' : '\'';
            Expect(quote);
            int end = text.IndexOf(quote, _at);
            if (end < 0) throw Unexpected("a closing quote");
            string value = text[_at..end];
            _at = end + 1;
            return value;
        }

        public string TypeDescription() => Sees('[')
            ? throw new TensorFileException(fileName, "holds records with named fields; expected a plain array of numbers.")
            : String();

        public bool Boolean()
        {
            Sees(' ');
            foreach ((string word, bool value) in new[] { ("True", true), ("False", false) })
            {
                if (!text.AsSpan(_at).StartsWith(word, StringComparison.Ordinal)) continue;
                _at += word.Length;
                return value;
            }

            throw Unexpected("True or False");
        }

        public List<long> Tuple()
        {
            var sizes = new List<long>();
            Expect('(');
            while (!TryTake(')'))
            {
                sizes.Add(Size());
                if (!TryTake(',') && !Sees(')')) throw Unexpected("',' or ')'");
            }

            return sizes;
        }

        public TensorFileException Unexpected(string expected)
            => new(fileName, $"has a header that cannot be read: expected {expected} at character {_at} of {text.Length}.");

        private long Size()
        {
            Sees(' ');
            int start = _at;
            while (_at < text.Length && char.IsAsciiDigit(text[_at])) _at++;
            return long.TryParse(text.AsSpan(start, _at - start), NumberStyles.None, CultureInfo.InvariantCulture, out long size)
                ? size
                : throw Unexpected("a length from 0 to 2^63");
        }
    }
}
