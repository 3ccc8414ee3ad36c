namespace FusedAttention.Samples.TextGeneration.Tokens;

/// <summary>Text to tokens and back.</summary>
internal interface ITokenizer
{
    /// <summary>The token that ends a text, or null if there is none.</summary>
    int? EndToken { get; }

    int[] Encode(ReadOnlySpan<byte> text);

    /// <summary>The bytes that a token stands for after another one.</summary>
    ReadOnlySpan<byte> Decode(int previous, int token);
}
