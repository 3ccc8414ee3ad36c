namespace FusedAttention.Samples.TextGeneration.Tokens;

/// <summary>A token is a byte.</summary>
internal sealed class ByteTokenizer : ITokenizer
{
    private static readonly byte[] Bytes = [.. Enumerable.Range(0, 256).Select(static b => (byte)b)];

    public int? EndToken => null;

    public int[] Encode(ReadOnlySpan<byte> text)
    {
        int[] tokens = new int[text.Length];
        for (int i = 0; i < tokens.Length; i++) tokens[i] = text[i];
        return tokens;
    }

    public ReadOnlySpan<byte> Decode(int previous, int token) => Bytes.AsSpan(token, 1);
}
