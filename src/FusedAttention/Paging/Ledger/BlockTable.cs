namespace FusedAttention.Paging.Ledger;

/// <summary>The blocks of one sequence, in the order of its tokens: position <c>p</c> lies in block <c>Blocks[p / blockSize]</c>, at slot <c>p % blockSize</c>.</summary>
internal sealed class BlockTable
{
    /// <summary>In place of a block that was dropped.</summary>
    public const int Dropped = -1;

    private int[] _blocks = [];
    private PublishedPrefix _published;
    private long _changedAt;
    private long _changedBefore;
    private int _firstChange;

    /// <summary>Tells this use of the table from earlier ones; 0 while no sequence has it.</summary>
    public long Generation { get; set; }

    /// <summary>The last call that was given several tables at once and met this one, so that a table named twice is noticed.</summary>
    public long LastCall { get; set; }

    /// <summary>The ledger's version when the sequence was last made shorter.</summary>
    public long ShortenedAt { get; set; }

    /// <summary>The ledger's version when blocks of the sequence were last dropped.</summary>
    public long DroppedAt { get; set; }

    /// <summary>Tokens, dropped ones included.</summary>
    public int Length { get; set; }

    /// <summary>How many leading blocks were dropped.</summary>
    public int DroppedBlocks { get; set; }

    /// <summary>Which of the tokens may be published.</summary>
    public Freshness Freshness { get; } = new();

    /// <summary>What the prefix index has of the sequence.</summary>
    public ref PublishedPrefix Published => ref _published;

    /// <summary>Blocks, dropped ones included.</summary>
    public int Count { get; private set; }

    public ReadOnlySpan<int> Blocks => _blocks.AsSpan(0, Count);

    public int this[int index]
    {
        get => Blocks[index];
        set => _blocks.AsSpan(0, Count)[index] = value;
    }

    /// <summary>Makes room, so that <see cref="Add"/> cannot fail: doubling, so that appending allocates ever more rarely.</summary>
    public void EnsureCapacity(int blocks)
    {
        if (blocks <= _blocks.Length) return;
        Array.Resize(ref _blocks, Math.Max(blocks, (int)Math.Min(Array.MaxLength, Math.Max(8, 2L * _blocks.Length))));
    }

    public void Add(int block) => _blocks[Count++] = block;

    public void AddRange(ReadOnlySpan<int> blocks)
    {
        blocks.CopyTo(_blocks.AsSpan(Count));
        Count += blocks.Length;
    }

    public int RemoveLast() => _blocks[--Count];

    /// <summary>Notes that the entries from <paramref name="index"/> on are no longer what they were. Appending and dropping are no such changes.</summary>
    public void Change(int index, long version)
    {
        _changedBefore = _changedAt;
        _changedAt = version;
        _firstChange = index;
    }

    /// <summary>How many leading entries are what they were in a version. The last change is remembered with its place, so that a step which takes some of its tokens back costs the next one no copy of the table.</summary>
    public int UnchangedSince(long version) => _changedAt <= version ? int.MaxValue : _changedBefore <= version ? _firstChange : 0;

    /// <summary>Empties the table; its memory stays for the next sequence.</summary>
    public void Reset()
    {
        Generation = 0;
        Length = 0;
        Count = 0;
        DroppedBlocks = 0;
        ShortenedAt = 0;
        DroppedAt = 0;
        _changedAt = 0;
        _changedBefore = 0;
        Published = default;
        Freshness.Reset();
    }
}
