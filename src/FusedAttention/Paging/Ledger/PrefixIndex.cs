using System.Runtime.InteropServices;

namespace FusedAttention.Paging.Ledger;

/// <summary>
/// Finds full blocks by the tokens they were computed from: an entry says "this block holds these tokens, and before them comes what that parent entry says".
/// Chained entries therefore stand for whole prompt prefixes.
/// </summary>
/// <remarks>
/// A hash only chooses the bucket; a hit needs the same parent entry and equal tokens. Parents are named by a serial number that is never used twice, so when a parent leaves
/// and its block comes back with other contents, its former children can no longer be reached, instead of being reached wrongly.
/// Memory for an entry comes with the first use of its block and stays. Not thread-safe: the ledger's lock covers it.
/// </remarks>
internal sealed class PrefixIndex
{
    /// <summary>The parent of a prompt's first block.</summary>
    public const int Root = -1;

    private const int None = -1;

    private readonly int _blocks;
    private readonly int _bucketCount;
    private Entry[] _entries = [];
    private int[] _buckets = [];
    private long _lastSerial;

    /// <param name="blocks">How many blocks there are.</param>
    /// <param name="buckets">Buckets of the hash table, 0 for as many as blocks. Tests ask for 1, so that everything collides.</param>
    public PrefixIndex(int blocks, int buckets = 0)
    {
        _blocks = blocks;
        _bucketCount = buckets > 0 ? buckets : Math.Max(1, blocks);
    }

    public bool Contains(int block) => _entries.Length > 0 && _entries[block].Serial != 0;

    /// <summary>Whether the block's entry can still be found: its parent is the one it was given.</summary>
    public bool HasParent(int block)
    {
        ref readonly Entry entry = ref _entries[block];
        return entry.Serial != 0 && entry.ParentSerial == SerialOf(entry.Parent);
    }

    /// <summary>The tokens that the block's entry was made with.</summary>
    public ReadOnlySpan<int> Tokens(int block) => _entries[block].Tokens;

    /// <summary>The block that holds these tokens after what <paramref name="parent"/> and its own parents hold; -1 if there is none.</summary>
    public int Find(int parent, ReadOnlySpan<int> tokens)
    {
        if (_entries.Length == 0) return None;
        long parentSerial = SerialOf(parent);
        int block = _buckets[BucketOf(parentSerial, tokens)];
        while (block != None)
        {
            ref readonly Entry entry = ref _entries[block];
            if (entry.ParentSerial == parentSerial && tokens.SequenceEqual(entry.Tokens)) return block;
            block = entry.Next;
        }

        return None;
    }

    /// <summary>Adds an entry for a block that has none.</summary>
    public void Insert(int block, int parent, ReadOnlySpan<int> tokens)
    {
        if (_entries.Length == 0)
        {
            _buckets = new int[_bucketCount];
            _buckets.AsSpan().Fill(None);
            _entries = new Entry[_blocks];
        }

        ref Entry entry = ref _entries[block];
        int[] copy = entry.Tokens ??= new int[tokens.Length];
        tokens.CopyTo(copy);
        entry.Parent = parent;
        entry.ParentSerial = SerialOf(parent);
        entry.Bucket = BucketOf(entry.ParentSerial, tokens);
        entry.Next = _buckets[entry.Bucket];
        _buckets[entry.Bucket] = block;
        entry.Serial = ++_lastSerial;
    }

    /// <summary>Removes the block's entry; entries that have it for a parent become unreachable.</summary>
    public void Remove(int block)
    {
        ref Entry entry = ref _entries[block];
        ref int link = ref _buckets[entry.Bucket];
        while (link != block) link = ref _entries[link].Next;
        link = entry.Next;
        entry.Serial = 0;
    }

    /// <summary>Removes every entry.</summary>
    public void Clear()
    {
        _buckets.AsSpan().Fill(None);
        foreach (ref Entry entry in _entries.AsSpan()) entry.Serial = 0;
    }

    private long SerialOf(int parent) => parent == Root ? 0 : _entries[parent].Serial;

    /// <summary>The framework's hash has a random seed in each process, so nobody can prepare prompts that fill one bucket.</summary>
    private int BucketOf(long parentSerial, ReadOnlySpan<int> tokens)
    {
        var hash = default(HashCode);
        hash.Add(parentSerial);
        hash.AddBytes(MemoryMarshal.AsBytes(tokens));
        return (int)((uint)hash.ToHashCode() % (uint)_bucketCount);
    }

    private struct Entry
    {
        public int[]? Tokens;
        public long Serial;         // 0: no entry
        public long ParentSerial;   // 0: the root
        public int Parent;
        public int Bucket;
        public int Next;
    }
}
