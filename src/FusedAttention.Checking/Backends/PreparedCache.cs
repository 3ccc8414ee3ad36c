using FusedAttention.Checking.Formats;

namespace FusedAttention.Checking.Backends;

/// <summary>A paged cache of a backend with one layer, whose rows come and go as loaded tensors wherever its memory lies.</summary>
public abstract class PreparedCache : IDisposable
{
    /// <summary>The keys as they lie in the pool, <c>[blocks, block size, key/value heads, dim]</c>.</summary>
    public abstract LoadedTensor Keys { get; }

    /// <summary>The values, laid out as <see cref="Keys"/>.</summary>
    public abstract LoadedTensor Values { get; }

    /// <summary>A new sequence without a token.</summary>
    public abstract CacheSequence CreateSequence();

    /// <summary>A sequence that begins with all that another one has.</summary>
    public abstract CacheSequence Fork(CacheSequence sequence);

    /// <summary>Cuts a sequence to its first tokens.</summary>
    public abstract void Truncate(CacheSequence sequence, int length);

    /// <summary>Writes the blocks of a sequence, in the order of its tokens.</summary>
    public abstract void CopyBlockTable(CacheSequence sequence, Span<int> destination);

    /// <summary>Appends tokens to a sequence.</summary>
    /// <param name="sequence">The sequence.</param>
    /// <param name="keys"><c>[tokens, key/value heads, dim]</c>.</param>
    /// <param name="values">Laid out as <paramref name="keys"/>.</param>
    public abstract void Append(CacheSequence sequence, LoadedTensor keys, LoadedTensor values);

    /// <summary>Gives its memory back.</summary>
    public void Dispose()
    {
        Dispose(disposing: true);
        GC.SuppressFinalize(this);
    }

    protected abstract void Dispose(bool disposing);
}

/// <summary>What is the same for every <see cref="KeyValueCache"/>: the sequences.</summary>
/// <typeparam name="T">Element type of keys and values.</typeparam>
public abstract class PreparedCache<T>(KeyValueCache cache) : PreparedCache
    where T : unmanaged
{
    public sealed override CacheSequence CreateSequence() => cache.CreateSequence();

    public sealed override CacheSequence Fork(CacheSequence sequence) => cache.Fork(sequence);

    public sealed override void Truncate(CacheSequence sequence, int length) => cache.Truncate(sequence, length);

    public sealed override void CopyBlockTable(CacheSequence sequence, Span<int> destination) => cache.CopyBlockTable(sequence, destination);

    protected sealed override void Dispose(bool disposing) => cache.Dispose();

    /// <summary>Rows of the pool as a tensor.</summary>
    protected LoadedTensor Pool(string name, ReadOnlySpan<T> rows, int dim)
        => LoadedTensor.Create(name, rows, cache.Options.Blocks, cache.Options.BlockSize, cache.Options.KeyValueHeads, dim);
}
