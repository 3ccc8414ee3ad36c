using System.Buffers.Binary;
using FusedAttention.Tensors;

namespace FusedAttention.Paging.Saving;

/// <summary>A sequence outside of a cache: the head of its stream, and how the rest is cut into pieces.</summary>
/// <remarks>
/// <para>The head is 64 bytes, numbers of 32 bits with the lowest byte first: 8 bytes <c>FAKVSEQ1</c>, the element type (1 float, 2 Half, 3 BFloat16, 4 int8, 5 E4M3, 6 blocks of q8_0), layers, heads, key dim, value dim, first position, length,
/// then zeros.</para>
/// <para>Layer by layer follow the tokens from the first position on, in pieces of as many as make 2^20 bytes, at least one: <c>[tokens, heads, keyDim]</c> keys, then <c>[tokens, heads, valueDim]</c> values,
/// then for int8 and E4M3 the scales <c>[tokens, heads]</c> of the keys and those of the values, 32-bit floats. Nothing tells how the cache had them in blocks.</para>
/// </remarks>
/// <param name="ElementType">What keys and values are stored as.</param>
/// <param name="Layers">Of the model.</param>
/// <param name="Heads">Key/value heads.</param>
/// <param name="KeyDim">Elements of a key.</param>
/// <param name="ValueDim">Elements of a value.</param>
/// <param name="FirstPosition">The first position that was not dropped.</param>
/// <param name="Length">Tokens, dropped ones included.</param>
internal readonly record struct SavedSequence(AttentionElementType ElementType, int Layers, int Heads, int KeyDim, int ValueDim, int FirstPosition, int Length)
{
    public const int HeadBytes = 64;

    /// <summary>Large enough that a piece costs more than asking for it, small enough that nobody notices the buffer.</summary>
    private const int BytesPerPiece = 1 << 20;

    private static ReadOnlySpan<byte> Signature => "FAKVSEQ1"u8;

    /// <summary>Pieces of all layers.</summary>
    public long Pieces => Layers * PiecesPerLayer;

    /// <summary>Bytes of the head, or of the largest piece.</summary>
    public int BufferBytes => (int)Math.Max(HeadBytes, Math.Min(PieceTokens, Length - FirstPosition) * TokenBytes);

    /// <summary>Bytes of a token's keys, in one layer.</summary>
    public long KeyBytes => (long)Heads * ElementType.RowBytes(KeyDim);

    /// <summary>Bytes of its values.</summary>
    public long ValueBytes => (long)Heads * ElementType.RowBytes(ValueDim);

    /// <summary>Bytes of the scales of its keys, and of those of its values.</summary>
    public long ScaleBytes => ElementType.TakesScales() ? (long)Heads * sizeof(float) : 0;

    private long TokenBytes => KeyBytes + ValueBytes + (2 * ScaleBytes);

    private int PieceTokens => (int)Math.Max(1, BytesPerPiece / TokenBytes);

    private long PiecesPerLayer => ((long)Length - FirstPosition + PieceTokens - 1) / PieceTokens;

    /// <param name="index">From 0 to <see cref="Pieces"/> - 1.</param>
    public SavedPiece PieceAt(long index)
    {
        int position = FirstPosition + (int)(index % PiecesPerLayer * PieceTokens), tokens = Math.Min(PieceTokens, Length - position);
        return new((int)(index / PiecesPerLayer), position, tokens, (int)(tokens * TokenBytes));
    }

    public void WriteHead(Span<byte> head)
    {
        head[..HeadBytes].Clear();
        Signature.CopyTo(head);
        ReadOnlySpan<int> numbers = [NumberOf(ElementType), Layers, Heads, KeyDim, ValueDim, FirstPosition, Length];
        for (int i = 0; i < numbers.Length; i++) BinaryPrimitives.WriteInt32LittleEndian(NumberAt(head, i), numbers[i]);
    }

    /// <exception cref="InvalidDataException">It is not the head of a saved sequence.</exception>
    public static SavedSequence ReadHead(Span<byte> head)
    {
        if (!head.StartsWith(Signature)) throw new InvalidDataException("The stream does not hold a saved sequence: it does not begin with FAKVSEQ1.");
        Span<int> numbers = stackalloc int[7];
        for (int i = 0; i < numbers.Length; i++) numbers[i] = BinaryPrimitives.ReadInt32LittleEndian(NumberAt(head, i));
        AttentionElementType type = numbers[0] switch
        {
            1 => AttentionElementType.Float32,
            2 => AttentionElementType.Float16,
            3 => AttentionElementType.BFloat16,
            4 => AttentionElementType.Int8,
            5 => AttentionElementType.Float8E4M3,
            6 => AttentionElementType.Q8Block,
            _ => throw new InvalidDataException($"The saved sequence is of element type {numbers[0]}, which this version does not know."),
        };
        var saved = new SavedSequence(type, numbers[1], numbers[2], numbers[3], numbers[4], numbers[5], numbers[6]);
        if (saved.FirstPosition < 0 || saved.FirstPosition > saved.Length)
            throw new InvalidDataException($"The saved sequence has {saved.Length} tokens and starts at position {saved.FirstPosition}: the stream is damaged.");
        if (saved.KeyDim % type.Numbers() != 0 || saved.ValueDim % type.Numbers() != 0)
            throw new InvalidDataException($"The saved sequence has blocks of {type.Numbers()} numbers, key dim {saved.KeyDim} and value dim {saved.ValueDim}: the stream is damaged.");
        return saved;
    }

    private static int NumberOf(AttentionElementType type) => type switch
    {
        AttentionElementType.Float32 => 1,
        AttentionElementType.Float16 => 2,
        AttentionElementType.BFloat16 => 3,
        AttentionElementType.Int8 => 4,
        AttentionElementType.Float8E4M3 => 5,
        AttentionElementType.Q8Block => 6,
        _ => throw new ArgumentOutOfRangeException(nameof(type), type, "There is no number for the element type."),
    };

    private static Span<byte> NumberAt(Span<byte> head, int index) => head.Slice(Signature.Length + (index * sizeof(int)), sizeof(int));
}

/// <summary>Some tokens of a layer, in one piece of the stream.</summary>
/// <param name="Layer">Which.</param>
/// <param name="Position">Of the first of them.</param>
/// <param name="Tokens">How many; 1 or more.</param>
/// <param name="Bytes">Of keys, values and scales together.</param>
internal readonly record struct SavedPiece(int Layer, int Position, int Tokens, int Bytes);
