namespace FusedAttention.Paging.Ledger;

/// <summary>
/// The blocks that the last look-up has found, one after the other. Prompts that come together often begin alike: what the next one has in common is compared in one go instead of being looked up block by block, which takes
/// a tenth of the time (2,048 requests with 8,000 common tokens: 3 us each instead of 40).
/// </summary>
internal sealed class PrefixWalk
{
    private int[] _blocks = [];
    private int[] _tokens = [];
    private UInt128 _identity;
    private long _removals;

    /// <summary>How many blocks were found.</summary>
    public int Count { get; private set; }

    /// <summary>They.</summary>
    public ReadOnlySpan<int> Blocks => _blocks.AsSpan(0, Count);

    /// <summary>Begins a look-up with what it has in common with the last one.</summary>
    /// <param name="prefix">What is looked up.</param>
    /// <param name="blockSize">Tokens in a block.</param>
    /// <param name="removals">How often the index has lost entries: what was found before that may be gone.</param>
    public void Begin(in TokenPrefix prefix, int blockSize, long removals)
    {
        bool holds = _removals == removals && _identity == prefix.Identity;
        Count = holds ? prefix.Tokens.CommonPrefixLength(_tokens.AsSpan(0, Count * blockSize)) / blockSize : 0;
        _identity = prefix.Identity;
        _removals = removals;
        EnsureCapacity(prefix.Tokens.Length / blockSize, blockSize);
    }

    /// <summary>Adds the block that holds the tokens that follow.</summary>
    public void Add(int block, ReadOnlySpan<int> tokens)
    {
        tokens.CopyTo(_tokens.AsSpan(Count * tokens.Length));
        _blocks[Count++] = block;
    }

    /// <summary>Takes over blocks that were found in another order, and only from some place on: no look-up goes on from these.</summary>
    public Span<int> BeginAnywhere(int blocks)
    {
        _removals = -1;
        EnsureCapacity(blocks, 0);
        Count = blocks;
        return _blocks.AsSpan(0, blocks);
    }

    /// <summary>Forgets the blocks from a place on.</summary>
    public void Cut(int blocks) => Count = blocks;

    private void EnsureCapacity(int blocks, int blockSize)
    {
        if (blocks > _blocks.Length) Array.Resize(ref _blocks, Math.Max(blocks, 2 * _blocks.Length));
        if ((long)blocks * blockSize > _tokens.Length) Array.Resize(ref _tokens, Math.Max(blocks * blockSize, (int)Math.Min(Array.MaxLength, 2L * _tokens.Length)));
    }
}
