using System.Text;
using FusedAttention.Samples.TextGeneration.Tokens;

namespace FusedAttention.Samples.Server.Engine;

/// <summary>
/// Makes text of tokens: a character of several bytes comes with its last one, and what may be the beginning of a stop string is held back until it is none. A stop string itself is no part of the text.
/// </summary>
internal sealed class TextAssembler(ITokenizer tokenizer, int endToken, IReadOnlyList<string> stops)
{
    private readonly Decoder _decoder = Encoding.UTF8.GetDecoder();
    private readonly StringBuilder _held = new();
    private int _previous = -1;

    /// <summary>Whether a stop string has come. There is no more text.</summary>
    public bool HasStopped { get; private set; }

    /// <summary>The text that a token makes certain.</summary>
    public string Add(int token)
    {
        if (HasStopped || token == endToken) return "";
        ReadOnlySpan<byte> bytes = tokenizer.Decode(_previous, token);
        _previous = token;
        Span<char> characters = stackalloc char[Encoding.UTF8.GetMaxCharCount(bytes.Length)];
        _held.Append(characters[.._decoder.GetChars(bytes, characters, flush: false)]);
        return Release(_held.ToString());
    }

    /// <summary>What was held back, now that nothing follows.</summary>
    public string Finish()
    {
        if (HasStopped) return "";
        Span<char> characters = stackalloc char[4];
        _held.Append(characters[.._decoder.GetChars([], characters, flush: true)]);
        string rest = _held.ToString();
        _held.Clear();
        return rest;
    }

    private string Release(string held)
    {
        int end = -1;
        foreach (string stop in stops)
        {
            int at = held.IndexOf(stop, StringComparison.Ordinal);
            if (at >= 0 && (end < 0 || at < end)) end = at;
        }

        HasStopped = end >= 0;
        if (!HasStopped) end = held.Length - LongestBeginning(held);
        _held.Remove(0, HasStopped ? held.Length : end);
        return held[..end];
    }

    /// <summary>How many of the last characters a stop string begins with.</summary>
    private int LongestBeginning(string held)
    {
        int longest = 0;
        foreach (string stop in stops)
            for (int length = Math.Min(stop.Length - 1, held.Length); length > longest; length--)
                if (held.AsSpan(held.Length - length).SequenceEqual(stop.AsSpan(0, length))) longest = length;
        return longest;
    }
}
