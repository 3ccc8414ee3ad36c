using FusedAttention.Diagnostics;
using FusedAttention.Paging.Ledger;
using FusedAttention.Paging.Storage;

namespace FusedAttention;

/// <summary>
/// Keys and values of many sequences in blocks of a fixed size, taken from one pool as sequences grow (Kwon et al. 2023, arXiv:2309.06180), wherever the memory is and whatever the elements are:
/// <see cref="PagedKeyValueCache{T}"/> is the cache in host memory.
/// Sequences that begin alike share blocks; a block that somebody else sees is copied before it is written.
/// </summary>
/// <remarks>
/// <para>One step of a model: <see cref="Extend(ReadOnlySpan{CacheSequence}, ReadOnlySpan{int})"/> by the new tokens, add the sequences to a <see cref="PagedBatch"/>, and for each layer <c>Write</c> and
/// then <c>ForwardPaged</c> with the cache, the layer and the batch. With one layer <c>Append</c> does the first and the third at once. All layers share a sequence's block table. Rows may be float, Half or
/// BFloat16 whatever the cache holds: they are rounded to nearest, ties to even, or quantized to 8 bits, each token and head by itself (<see cref="KeyValueQuantization"/>).</para>
/// <para>Threads: every method may be called from any thread; one lock serialises the bookkeeping, and contents are copied outside of it, except for copies on write. Blocks in use never
/// move, so a call that reads some sequences (<c>ForwardPaged</c>) may run while others are created, appended to, forked, freed, even where they share blocks with those that are read. A
/// sequence itself must not be changed (appended to, written, truncated, dropped from, freed) while a call reads or writes it; two threads must not write one sequence at once. Breaking this rule
/// gives wrong contents, never an access outside of the cache.</para>
/// <para>Nothing is allocated by appending, extending, writing, truncating, dropping and freeing once a sequence's table has been as long before.</para>
/// </remarks>
public abstract partial class KeyValueCache : IDisposable
{
    private readonly CacheLedger _ledger;
    private readonly BlockStorage _storage;

    /// <param name="options">The sizes.</param>
    /// <param name="storage">The contents; the cache disposes it.</param>
    /// <param name="prefixBuckets">Buckets of the prefix index; 0 for as many as blocks.</param>
    private protected KeyValueCache(PagedKeyValueCacheOptions options, BlockStorage storage, int prefixBuckets = 0)
    {
        Options = options;
        ElementType = storage.Format.ElementType;
        _storage = storage;
        _ledger = new(options.Blocks, options.BlockSize, options.Layers, storage, GetType(), prefixBuckets);
        CacheCensus.Add(_ledger);
    }

    /// <summary>The sizes that the cache was made with.</summary>
    public PagedKeyValueCacheOptions Options { get; }

    /// <summary>What keys and values are stored as.</summary>
    public AttentionElementType ElementType { get; }

    /// <summary>Bytes of native memory that the pool takes, all layers together.</summary>
    public long Bytes => _storage.Bytes;

    /// <summary>Blocks that new tokens can have: those that no sequence uses, <see cref="KeptBlocks"/> included.</summary>
    public int FreeBlocks => _ledger.AvailableBlocks;

    /// <summary>Blocks that a sequence uses; a shared one counts once. With <see cref="FreeBlocks"/> it makes up all blocks.</summary>
    public int UsedBlocks => _ledger.UsedBlocks;

    /// <summary>Free blocks whose published contents can still be found by <see cref="CreateSequence(ReadOnlySpan{int}, out int, string, int)"/>. They are given up, those released longest ago first, when no other block is free.</summary>
    public int KeptBlocks => _ledger.KeptBlocks;

    /// <summary>Sequences that were created and not yet freed.</summary>
    public int SequenceCount => _ledger.Sequences;

    internal CacheLedger Ledger => _ledger;

    internal object Memory => _storage;

    /// <summary>A list of the sequences of one step, for <c>Write</c> and <c>ForwardPaged</c>; use it again for every step.</summary>
    public PagedBatch CreateBatch() => new(_ledger, _storage);

    /// <summary>An empty sequence. It takes no block until tokens come.</summary>
    /// <exception cref="ObjectDisposedException">The cache is disposed.</exception>
    public CacheSequence CreateSequence() => _ledger.Create();

    /// <summary>
    /// A sequence that starts with the longest run of full blocks, published by <see cref="Publish"/>, that hold the first of these tokens; it shares them with whoever else has them.
    /// The rest is to be computed and appended as for any other sequence.
    /// </summary>
    /// <remarks>
    /// Tokens themselves are compared, not only hashes. A model that needs the last token's own output must compute that token: pass the prompt without it.
    /// With a window, only the blocks count that the token behind the prefix can see; those before them are as if dropped (<see cref="DropBefore"/>), and their tokens are told from others by a hash of 64 bits.
    /// </remarks>
    /// <param name="tokens">The prompt.</param>
    /// <param name="cachedTokens">How many tokens the sequence has: a multiple of the block size, 0 if nothing was found.</param>
    /// <param name="identity">What keys and values depend on beside tokens, as it was published.</param>
    /// <param name="window">How many tokens a query sees in any layer, its own included; 0 if it sees all.</param>
    /// <exception cref="ArgumentOutOfRangeException"><paramref name="window"/> is negative.</exception>
    /// <exception cref="ObjectDisposedException">The cache is disposed.</exception>
    public CacheSequence CreateSequence(ReadOnlySpan<int> tokens, out int cachedTokens, string? identity = null, int window = 0)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(window);
        return _ledger.Create(tokens, out cachedTokens, PrefixKey.Identity(identity), window);
    }

    /// <summary>
    /// Makes the full blocks of a sequence findable by <c>CreateSequence</c>. Call it when their keys and values are written in all layers; calling it again
    /// as the sequence grows publishes the blocks that have become full since.
    /// </summary>
    /// <remarks>
    /// Blocks stay published when the sequence is freed, until their space is needed. Writing to a published block that no other sequence uses takes it back.
    /// If the same prefix is published already, it stays as it is.
    /// What was computed before <see cref="ForgetPrefixes"/>, and what was computed from that, is passed over in silence.
    /// </remarks>
    /// <param name="sequence">The sequence.</param>
    /// <param name="tokens">Its tokens from position 0 on: all of them or the first ones; those after the last full block are ignored.</param>
    /// <param name="identity">
    /// What keys and values depend on beside tokens and their positions, such as an adapter, an image that placeholder tokens stand for, or a tenant whose prompts nobody else may find. Blocks are found
    /// under the same identity only; null or empty is one of its own.
    /// </param>
    /// <exception cref="ArgumentException">There are more tokens than the sequence has, or they differ from those a block was published with, or the handle is stale.</exception>
    /// <exception cref="ObjectDisposedException">The cache is disposed.</exception>
    public void Publish(CacheSequence sequence, ReadOnlySpan<int> tokens, string? identity = null) => _ledger.Publish(sequence, tokens, PrefixKey.Identity(identity));

    /// <summary>
    /// Forgets all that was published, as a change of the model's weights requires. Sequences keep their blocks, but what is in them by now is never published again, nor is what follows it: not before it
    /// has been truncated and appended anew, or written again in every layer, from the first token on.
    /// </summary>
    /// <exception cref="ObjectDisposedException">The cache is disposed.</exception>
    public void ForgetPrefixes() => _ledger.ForgetPrefixes();

    /// <summary>
    /// Adds slots for more tokens to a sequence, all or none, in blocks that no other sequence sees. Their contents are undefined until <c>Write</c> has filled them in every layer that is read.
    /// </summary>
    /// <param name="sequence">The sequence.</param>
    /// <param name="tokens">How many; 0 or more.</param>
    /// <returns>The position of the first new token.</returns>
    /// <exception cref="OutOfBlocksException">There are not enough free blocks; nothing was changed.</exception>
    /// <exception cref="ArgumentOutOfRangeException">The number is negative, or the sequence would pass 2^31 - 1 tokens.</exception>
    /// <exception cref="ArgumentException">The handle is stale.</exception>
    /// <exception cref="ObjectDisposedException">The cache is disposed.</exception>
    public int Extend(CacheSequence sequence, int tokens) => _ledger.Extend(sequence, tokens);

    /// <summary>
    /// Adds slots for more tokens to several sequences, to all of them or to none. Their contents are undefined until <c>Write</c> has filled them in every layer that is read.
    /// </summary>
    /// <param name="sequences">The sequences, each once.</param>
    /// <param name="tokens">How many tokens each of them gets; 0 or more.</param>
    /// <exception cref="OutOfBlocksException">There are not enough free blocks for all; nothing was changed. Sequences that share a partial last block each count a copy of it.</exception>
    /// <exception cref="ArgumentOutOfRangeException">A number is negative, or a sequence would pass 2^31 - 1 tokens.</exception>
    /// <exception cref="ArgumentException">The spans differ in length, or a handle is stale or named twice.</exception>
    /// <exception cref="ObjectDisposedException">The cache is disposed.</exception>
    public void Extend(ReadOnlySpan<CacheSequence> sequences, ReadOnlySpan<int> tokens) => _ledger.Extend(sequences, tokens);

    /// <summary>A second sequence with the same tokens. It shares all blocks, the last partial one too; whoever writes to a shared block first gets a copy of it.</summary>
    /// <param name="sequence">The sequence to fork.</param>
    /// <exception cref="ArgumentException">The handle is stale.</exception>
    /// <exception cref="ObjectDisposedException">The cache is disposed.</exception>
    public CacheSequence Fork(CacheSequence sequence) => _ledger.Fork(sequence);

    /// <summary>Forgets the tokens from position <paramref name="length"/> on and gives back the blocks that held nothing else.</summary>
    /// <param name="sequence">The sequence.</param>
    /// <param name="length">How many tokens remain, from 0 to the sequence's length. It may not lie among dropped tokens, except at 0.</param>
    /// <exception cref="ArgumentOutOfRangeException">The length is not one of these.</exception>
    /// <exception cref="ArgumentException">The handle is stale.</exception>
    /// <exception cref="ObjectDisposedException">The cache is disposed.</exception>
    public void Truncate(CacheSequence sequence, int length) => _ledger.Truncate(sequence, length);

    /// <summary>
    /// Gives back the blocks whose tokens all lie before a position, as a sliding window passes them. Positions and the length stay as they are; in block tables the dropped blocks read -1,
    /// so calls must have a window that never reaches them.
    /// </summary>
    /// <param name="sequence">The sequence.</param>
    /// <param name="position">The first position that is still needed, from 0 to the sequence's length.</param>
    /// <exception cref="ArgumentOutOfRangeException">The position is not one of these.</exception>
    /// <exception cref="ArgumentException">The handle is stale.</exception>
    /// <exception cref="ObjectDisposedException">The cache is disposed.</exception>
    public void DropBefore(CacheSequence sequence, int position) => _ledger.DropBefore(sequence, position);

    /// <summary>Ends a sequence. Its handle is refused from now on; blocks that no other sequence uses are free.</summary>
    /// <param name="sequence">The sequence.</param>
    /// <exception cref="ArgumentException">The handle is stale.</exception>
    /// <exception cref="ObjectDisposedException">The cache is disposed.</exception>
    public void Free(CacheSequence sequence) => _ledger.Free(sequence);

    /// <summary>Whether the handle names a living sequence of this cache.</summary>
    /// <param name="sequence">Any handle.</param>
    public bool Contains(CacheSequence sequence) => _ledger.Contains(sequence);

    /// <summary>How many tokens a sequence has; dropped ones count.</summary>
    /// <param name="sequence">The sequence.</param>
    /// <exception cref="ArgumentException">The handle is stale.</exception>
    /// <exception cref="ObjectDisposedException">The cache is disposed.</exception>
    public int GetLength(CacheSequence sequence) => _ledger.GetLength(sequence);

    /// <summary>The first position that was not dropped: a multiple of the block size.</summary>
    /// <param name="sequence">The sequence.</param>
    /// <exception cref="ArgumentException">The handle is stale.</exception>
    /// <exception cref="ObjectDisposedException">The cache is disposed.</exception>
    public int GetFirstPosition(CacheSequence sequence) => _ledger.GetFirstPosition(sequence);

    /// <summary>
    /// How many blocks appending would take from <see cref="FreeBlocks"/>, the copy of a shared last block included. For several sequences the sum is enough, and may be too much where they share
    /// a last block.
    /// </summary>
    /// <param name="sequence">The sequence.</param>
    /// <param name="tokens">How many tokens; 0 or more.</param>
    /// <exception cref="ArgumentOutOfRangeException">The number is negative.</exception>
    /// <exception cref="ArgumentException">The handle is stale.</exception>
    /// <exception cref="ObjectDisposedException">The cache is disposed.</exception>
    public int GetBlocksNeeded(CacheSequence sequence, int tokens) => _ledger.GetBlocksNeeded(sequence, tokens);

    /// <summary>Copies a sequence's block table: the block of position <c>p</c> is entry <c>p / BlockSize</c>, -1 where it was dropped.</summary>
    /// <param name="sequence">The sequence.</param>
    /// <param name="destination">Receives the table, and -1 in the rest. If it is too short it is left as it is.</param>
    /// <returns>How many entries the table has, whether it was copied or not.</returns>
    /// <exception cref="ArgumentException">The handle is stale.</exception>
    /// <exception cref="ObjectDisposedException">The cache is disposed.</exception>
    public int CopyBlockTable(CacheSequence sequence, Span<int> destination) => _ledger.CopyTable(sequence, destination);

    /// <summary>Frees the memory, once writes that are under way in other threads have ended. Views of it must not be used any more.</summary>
    public void Dispose()
    {
        _ledger.Close();
        CacheCensus.Remove(_ledger);
        _storage.Dispose();
        GC.SuppressFinalize(this);
    }
}
