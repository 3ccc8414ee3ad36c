namespace FusedAttention;

/// <summary>
/// The distances, in elements, from one batch row, token and head to the next. The elements of one head are always contiguous.
/// The default value means "contiguous": <c>[batch, token, head, dim]</c> in row-major order.
/// </summary>
/// <param name="Batch">From one batch row to the next.</param>
/// <param name="Token">From one token to the next.</param>
/// <param name="Head">From one head to the next.</param>
public readonly record struct AttentionStrides(long Batch, long Token, long Head)
{
    /// <summary>
    /// The strides of a contiguous tensor <c>[batch, head, token, dim]</c>, as PyTorch, TorchSharp and ONNX lay it out. Without them such memory is read as if tokens came before heads, which no check can notice: the number of elements
    /// is the same.
    /// </summary>
    /// <param name="heads">Heads of this tensor: query heads, or key/value heads.</param>
    /// <param name="tokens">Tokens that it has room for.</param>
    /// <param name="dim">Elements of a head.</param>
    /// <exception cref="ArgumentOutOfRangeException">A size is negative.</exception>
    public static AttentionStrides HeadMajor(int heads, int tokens, int dim)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(heads);
        ArgumentOutOfRangeException.ThrowIfNegative(tokens);
        ArgumentOutOfRangeException.ThrowIfNegative(dim);
        return new((long)heads * tokens * dim, dim, (long)tokens * dim);
    }
}

/// <summary>
/// The sizes of a dense call on plain spans or pointers: query <c>[Batch, QueryLength, QueryHeads, KeyDim]</c>, key
/// <c>[Batch, KeyLength, KeyValueHeads, KeyDim]</c>, value <c>[Batch, KeyLength, KeyValueHeads, ValueDim]</c> and output
/// <c>[Batch, QueryLength, QueryHeads, ValueDim]</c>, each contiguous unless its strides say otherwise.
/// </summary>
public readonly record struct AttentionShape
{
    /// <summary>Names the sizes.</summary>
    /// <param name="batch">Sequences, 0 or more.</param>
    /// <param name="queryLength">Query tokens a sequence, 0 or more.</param>
    /// <param name="keyLength">Keys a sequence, 0 or more.</param>
    /// <param name="queryHeads">Query heads, 1 or more, a multiple of <paramref name="keyValueHeads"/>.</param>
    /// <param name="keyValueHeads">Key/value heads, 1 or more.</param>
    /// <param name="keyDim">Elements of a query or key of one head, 1 to 4096.</param>
    /// <param name="valueDim">Elements of a value of one head; null for the same as <paramref name="keyDim"/>.</param>
    public AttentionShape(int batch, int queryLength, int keyLength, int queryHeads, int keyValueHeads, int keyDim, int? valueDim = null)
    {
        Batch = batch;
        QueryLength = queryLength;
        KeyLength = keyLength;
        QueryHeads = queryHeads;
        KeyValueHeads = keyValueHeads;
        KeyDim = keyDim;
        ValueDim = valueDim ?? keyDim;
    }

    /// <summary>Sequences in the batch.</summary>
    public int Batch { get; init; }

    /// <summary>Query tokens a sequence.</summary>
    public int QueryLength { get; init; }

    /// <summary>Keys a sequence.</summary>
    public int KeyLength { get; init; }

    /// <summary>Query heads: a multiple of <see cref="KeyValueHeads"/>. Consecutive query heads share a key/value head.</summary>
    public int QueryHeads { get; init; }

    /// <summary>Key/value heads.</summary>
    public int KeyValueHeads { get; init; }

    /// <summary>Elements of a query or key of one head.</summary>
    public int KeyDim { get; init; }

    /// <summary>Elements of a value or output of one head.</summary>
    public int ValueDim { get; init; }

    /// <summary>Layout of the query; default: contiguous.</summary>
    public AttentionStrides QueryStrides { get; init; }

    /// <summary>Layout of the key; default: contiguous.</summary>
    public AttentionStrides KeyStrides { get; init; }

    /// <summary>Layout of the value; default: contiguous.</summary>
    public AttentionStrides ValueStrides { get; init; }

    /// <summary>Layout of the output; default: contiguous.</summary>
    public AttentionStrides OutputStrides { get; init; }
}
