using System.Text;
using FusedAttention.Samples.TextGeneration.Tokens;

namespace FusedAttention.Samples.TextGeneration.Commands;

/// <summary>Writes tokens as text at once; a character of several bytes appears with its last one.</summary>
internal sealed class TokenWriter(ITokenizer tokenizer, TextWriter text)
{
    private readonly Decoder _decoder = Encoding.UTF8.GetDecoder();
    private int _previous = -1;

    /// <returns>The token.</returns>
    public int Write(int token)
    {
        ReadOnlySpan<byte> bytes = tokenizer.Decode(_previous, token);
        Span<char> characters = stackalloc char[Encoding.UTF8.GetMaxCharCount(bytes.Length)];
        text.Write(characters[.._decoder.GetChars(bytes, characters, flush: false)]);
        text.Flush();
        _previous = token;
        return token;
    }
}
