namespace FusedAttention.Paging.Ledger;

/// <summary>The keys of a growing list of tokens, one for each full block: see <see cref="PrefixKey"/>.</summary>
/// <param name="blockSize">Tokens in a block.</param>
/// <param name="identity">What keys and values depend on beside tokens.</param>
internal sealed class PrefixKeys(int blockSize, UInt128 identity)
{
    private ulong[] _keys = [];

    public UInt128 Identity => identity;

    /// <summary>Blocks that have a key.</summary>
    public int Count { get; private set; }

    /// <summary>The key of the first k full blocks at place k - 1.</summary>
    public ReadOnlySpan<ulong> Keys => _keys.AsSpan(0, Count);

    /// <summary>Adds the keys of blocks that have become full.</summary>
    /// <param name="tokens">All tokens from the first on.</param>
    public void Extend(ReadOnlySpan<int> tokens)
    {
        int blocks = tokens.Length / blockSize;
        if (blocks <= Count) return;
        if (blocks > _keys.Length) Array.Resize(ref _keys, Math.Max(blocks, Count == 0 ? 0 : (int)Math.Min(Array.MaxLength, 2L * _keys.Length)));
        ulong key = After(Count);
        for (; Count < blocks; Count++) _keys[Count] = key = PrefixKey.Next(key, tokens.Slice(Count * blockSize, blockSize));
    }

    /// <summary>The key of the first blocks.</summary>
    public ulong After(int blocks) => blocks == 0 ? PrefixKey.Start(identity) : _keys[blocks - 1];
}

/// <summary>Tokens with the keys of their full blocks.</summary>
internal readonly ref struct TokenPrefix(ReadOnlySpan<int> tokens, ReadOnlySpan<ulong> keys, UInt128 identity)
{
    public ReadOnlySpan<int> Tokens { get; } = tokens;

    /// <summary>One a full block at least.</summary>
    public ReadOnlySpan<ulong> Keys { get; } = keys;

    /// <summary>What keys and values depend on beside tokens.</summary>
    public UInt128 Identity { get; } = identity;
}
