using System.Text;

namespace FusedAttention.Samples.TextGeneration.Tokens;

/// <summary>
/// The tokenizer of llama2.c: pieces with scores. Text starts as single characters (bytes where there is no such piece), and the adjacent pair that makes the best piece is merged until
/// there is none (byte-pair encoding by score).
/// </summary>
internal sealed class PieceTokenizer : ITokenizer
{
    private const int Begin = 1;
    private const int End = 2;
    private const int FirstByte = 3;
    private static readonly byte[] Bytes = [.. Enumerable.Range(0, 256).Select(static b => (byte)b)];

    private readonly byte[][] _pieces;
    private readonly float[] _scores;
    private readonly Dictionary<string, int> _ids = new(StringComparer.Ordinal);

    private PieceTokenizer(byte[][] pieces, float[] scores)
    {
        _pieces = pieces;
        _scores = scores;
        for (int id = pieces.Length - 1; id >= 0; id--) _ids[Key(pieces[id])] = id;
    }

    public int? EndToken => End;

    /// <summary>Reads a file of a 32-bit longest length and, for each piece, a score, a 32-bit length and the bytes.</summary>
    public static PieceTokenizer Load(string path, int vocabulary)
    {
        using var reader = new BinaryReader(File.OpenRead(path));
        byte[][] pieces = new byte[vocabulary][];
        float[] scores = new float[vocabulary];
        try
        {
            int longest = reader.ReadInt32();
            for (int id = 0; id < vocabulary; id++)
            {
                scores[id] = reader.ReadSingle();
                int length = reader.ReadInt32();
                if (length < 0 || length > longest) throw new InvalidDataException($"{Path.GetFileName(path)}: piece {id} has {length} bytes, but the longest should have {longest}.");
                pieces[id] = reader.ReadBytes(length);
            }
        }
        catch (EndOfStreamException e)
        {
            throw new InvalidDataException($"{Path.GetFileName(path)} ends before {vocabulary} pieces.", e);
        }

        return new(pieces, scores);
    }

    public int[] Encode(ReadOnlySpan<byte> text)
    {
        List<int> tokens = [Begin];
        if (!text.IsEmpty && _ids.TryGetValue(" ", out int space)) tokens.Add(space);
        while (!text.IsEmpty)
        {
            Rune.DecodeFromUtf8(text, out _, out int length);
            if (_ids.TryGetValue(Key(text[..length]), out int id)) tokens.Add(id);
            else foreach (byte b in text[..length]) tokens.Add(b + FirstByte);
            text = text[length..];
        }

        while (BestPair(tokens) is (int at, int merged))
        {
            tokens[at] = merged;
            tokens.RemoveAt(at + 1);
        }

        return [.. tokens];
    }

    public ReadOnlySpan<byte> Decode(int previous, int token)
    {
        if (token is Begin or End) return [];
        if (token is >= FirstByte and < FirstByte + 256) return Bytes.AsSpan(token - FirstByte, 1);
        ReadOnlySpan<byte> piece = _pieces[token];

        // The space that Encode puts in front of a text is not part of it.
        return previous == Begin && piece.StartsWith(" "u8) ? piece[1..] : piece;
    }

    /// <summary>The leftmost of the pairs whose merged piece has the highest score.</summary>
    private (int At, int Merged)? BestPair(List<int> tokens)
    {
        (int, int)? best = null;
        float score = float.NegativeInfinity;
        for (int i = 1; i < tokens.Count; i++)
        {
            if (!_ids.TryGetValue(Key(_pieces[tokens[i - 1]]) + Key(_pieces[tokens[i]]), out int merged) || _scores[merged] <= score) continue;
            best = (i - 1, merged);
            score = _scores[merged];
        }

        return best;
    }

    /// <summary>Bytes as a dictionary key, one character each.</summary>
    private static string Key(ReadOnlySpan<byte> bytes) => Encoding.Latin1.GetString(bytes);
}
