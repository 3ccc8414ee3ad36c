using System.Numerics;

namespace FusedAttention.Paging.Ledger;

/// <summary>
/// Finds blocks by the tokens they were computed from: an entry says "this block holds these tokens, and before them comes what that parent entry says". Chained entries therefore stand for whole prompt
/// prefixes.
/// </summary>
/// <remarks>
/// A key (<see cref="PrefixKey"/>) only chooses the bucket; a hit needs the same parent entry and equal tokens. Parents are named by a serial number that is never used twice, so when a parent leaves
/// and its block comes back with other contents, its former children can no longer be reached, instead of being reached wrongly. A window that reads nothing before a block asks for it without its parent:
/// only there a key stands for the tokens before.
/// An entry may have fewer tokens than a block holds: the end of a prompt. It is found as the beginning of a block only.
/// Memory for an entry comes with the first use of its block and stays. Everything is O(1) but for the comparison of tokens. Not thread-safe: the ledger's lock covers it.
/// </remarks>
internal sealed class PrefixIndex
{
    /// <summary>The serial number of what comes before a prompt's first block.</summary>
    public const long Root = 0;

    private const int None = -1;

    /// <summary>Blocks that begin with the same token after the same prefix and are compared, the newest first. With more than that, one of them is likely to be good enough.</summary>
    private const int MostBeginnings = 16;

    private readonly int _blocks;
    private readonly int _bucketCount;
    private Entry[] _entries = [];
    private int[] _byKey = [];
    private int[] _byBeginning = [];
    private long _lastSerial;

    /// <param name="blocks">How many blocks there are.</param>
    /// <param name="buckets">Buckets of the hash tables, 0 for as many as blocks. Tests ask for 1, so that everything collides.</param>
    public PrefixIndex(int blocks, int buckets = 0)
    {
        _blocks = blocks;
        _bucketCount = (int)BitOperations.RoundUpToPowerOf2((uint)Math.Clamp(buckets > 0 ? buckets : blocks, 1, 1 << 30));
    }

    /// <summary>Grows with every change.</summary>
    public long Version { get; private set; }

    /// <summary>Grows when an entry leaves.</summary>
    public long Removals { get; private set; }

    /// <summary>How often somebody looked for a block, for tests of what that costs.</summary>
    internal long LookUps { get; private set; }

    public bool Contains(int block) => SerialOf(block) != 0;

    /// <summary>Tells this entry of a block from earlier and later ones; 0 if it has none.</summary>
    public long SerialOf(int block) => _entries.Length > 0 ? _entries[block].Serial : 0;

    /// <summary>A number that no entry has.</summary>
    public long NewSerial() => ++_lastSerial;

    /// <summary>Whether the block's entry can still be found: its parent is the one it was given.</summary>
    public bool HasParent(int block)
    {
        ref readonly Entry entry = ref _entries[block];
        return entry.Serial != 0 && (entry.ParentSerial == Root || entry.ParentSerial == _entries[entry.Parent].Serial);
    }

    /// <summary>The tokens that the block's entry was made with.</summary>
    public ReadOnlySpan<int> Tokens(int block)
    {
        ref readonly Entry entry = ref _entries[block];
        return entry.Tokens.AsSpan(0, entry.Count);
    }

    /// <summary>The block that holds these tokens after what the parent and its own parents hold; -1 if there is none.</summary>
    /// <param name="parentSerial">The parent's entry.</param>
    /// <param name="identity">What keys and values depend on beside tokens.</param>
    /// <param name="key">The key of all tokens up to and including these.</param>
    /// <param name="tokens">A full block of them.</param>
    public int Find(long parentSerial, UInt128 identity, ulong key, ReadOnlySpan<int> tokens)
    {
        LookUps++;
        if (_entries.Length == 0) return None;
        int block = _byKey[BucketOf(key)];
        while (block != None)
        {
            ref readonly Entry entry = ref _entries[block];
            if (entry.Key == key && entry.Follows(parentSerial, identity) && tokens.SequenceEqual(entry.Tokens.AsSpan(0, entry.Count))) return block;
            block = entry.NextByKey;
        }

        return None;
    }

    /// <summary>A block that holds these tokens, whether what came before them is there or not; -1 if there is none.</summary>
    public int FindAlone(ulong key, ReadOnlySpan<int> tokens)
    {
        LookUps++;
        if (_entries.Length == 0) return None;
        int block = _byKey[BucketOf(key)];
        while (block != None)
        {
            ref readonly Entry entry = ref _entries[block];
            if (entry.Key == key && tokens.SequenceEqual(entry.Tokens.AsSpan(0, entry.Count))) return block;
            block = entry.NextByKey;
        }

        return None;
    }

    /// <summary>A block that begins with the first of these tokens, after what the parent and its own parents hold; -1 if there is none.</summary>
    /// <param name="parentSerial">The parent's entry.</param>
    /// <param name="identity">What keys and values depend on beside tokens.</param>
    /// <param name="tokens">At least one.</param>
    /// <param name="common">How many tokens it begins with.</param>
    public int FindBeginning(long parentSerial, UInt128 identity, ReadOnlySpan<int> tokens, out int common)
    {
        common = 0;
        int best = None;
        LookUps++;
        if (_entries.Length == 0) return None;
        int block = _byBeginning[BucketOf(parentSerial, tokens[0])];
        for (int seen = 0; block != None && seen < MostBeginnings; seen++)
        {
            ref readonly Entry entry = ref _entries[block];
            if (entry.Follows(parentSerial, identity))
            {
                int shared = tokens.CommonPrefixLength(entry.Tokens.AsSpan(0, entry.Count));
                if (shared > common) (best, common) = (block, shared);
            }

            block = entry.NextByBeginning;
        }

        return best;
    }

    /// <summary>Adds an entry for a block that has none.</summary>
    /// <param name="block">The block.</param>
    /// <param name="parent">The block of the parent's entry; any if it is the root.</param>
    /// <param name="parentSerial">The parent's entry.</param>
    /// <param name="identity">What keys and values depend on beside tokens.</param>
    /// <param name="key">The key of all tokens up to and including these; of no use if they do not fill the block.</param>
    /// <param name="tokens">One or more.</param>
    /// <param name="isFull">Whether they fill the block.</param>
    public void Insert(int block, int parent, long parentSerial, UInt128 identity, ulong key, ReadOnlySpan<int> tokens, bool isFull)
    {
        if (_entries.Length == 0) Allocate();
        Version++;
        ref Entry entry = ref _entries[block];
        if (entry.Tokens is null || entry.Tokens.Length < tokens.Length) entry.Tokens = new int[tokens.Length];
        tokens.CopyTo(entry.Tokens);
        entry.Count = tokens.Length;
        entry.IsFull = isFull;
        entry.Parent = parent;
        entry.ParentSerial = parentSerial;
        entry.Identity = identity;
        entry.Key = key;
        entry.Serial = ++_lastSerial;
        if (isFull) LinkByKey(block, ref entry);
        LinkByBeginning(block, ref entry);
    }

    /// <summary>Removes the block's entry; entries that have it for a parent become unreachable.</summary>
    public void Remove(int block)
    {
        Version++;
        Removals++;
        ref Entry entry = ref _entries[block];
        entry.Serial = 0;
        if (entry.IsFull) UnlinkByKey(block, ref entry);
        UnlinkByBeginning(ref entry);
    }

    /// <summary>Removes every entry.</summary>
    public void Clear()
    {
        Version++;
        Removals++;
        _byKey.AsSpan().Fill(None);
        _byBeginning.AsSpan().Fill(None);
        foreach (ref Entry entry in _entries.AsSpan()) entry.Serial = 0;
    }

    private void Allocate()
    {
        _byKey = new int[_bucketCount];
        _byKey.AsSpan().Fill(None);
        _byBeginning = new int[_bucketCount];
        _byBeginning.AsSpan().Fill(None);
        _entries = new Entry[_blocks];
    }

    private int BucketOf(ulong key) => (int)(uint)key & (_bucketCount - 1);

    private int BucketOf(long parentSerial, int token) => BucketOf(PrefixKey.Next((ulong)parentSerial, [token]));

    private void LinkByKey(int block, ref Entry entry)
    {
        ref int first = ref _byKey[BucketOf(entry.Key)];
        entry.NextByKey = first;
        first = block;
    }

    private void UnlinkByKey(int block, ref Entry entry)
    {
        ref int link = ref _byKey[BucketOf(entry.Key)];
        while (link != block) link = ref _entries[link].NextByKey;
        link = entry.NextByKey;
    }

    /// <summary>Many blocks may begin alike (each after one common instruction), so this list is linked both ways.</summary>
    private void LinkByBeginning(int block, ref Entry entry)
    {
        entry.Beginning = BucketOf(entry.ParentSerial, entry.Tokens![0]);
        ref int first = ref _byBeginning[entry.Beginning];
        entry.NextByBeginning = first;
        entry.PreviousByBeginning = None;
        if (first != None) _entries[first].PreviousByBeginning = block;
        first = block;
    }

    private void UnlinkByBeginning(ref Entry entry)
    {
        if (entry.PreviousByBeginning == None) _byBeginning[entry.Beginning] = entry.NextByBeginning;
        else _entries[entry.PreviousByBeginning].NextByBeginning = entry.NextByBeginning;
        if (entry.NextByBeginning != None) _entries[entry.NextByBeginning].PreviousByBeginning = entry.PreviousByBeginning;
    }

    private struct Entry
    {
        public int[]? Tokens;
        public UInt128 Identity;    // asked for only where no parent stands for it
        public ulong Key;
        public long Serial;         // 0: no entry
        public long ParentSerial;
        public int Parent;
        public int Count;
        public int NextByKey;
        public int Beginning;
        public int NextByBeginning;
        public int PreviousByBeginning;
        public bool IsFull;

        public readonly bool Follows(long parentSerial, UInt128 identity) => ParentSerial == parentSerial && (parentSerial != Root || Identity == identity);
    }
}
