namespace FusedAttention.Paging.Ledger;

/// <summary>The blocks of one sequence, in the order of its tokens: position <c>p</c> lies in block <c>Blocks[p / blockSize]</c>, at slot <c>p % blockSize</c>.</summary>
internal sealed class BlockTable
{
    /// <summary>In place of a block that was dropped.</summary>
    public const int Dropped = -1;

    private int[] _blocks = [];

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

    public int RemoveLast() => _blocks[--Count];

    /// <summary>Empties the table; its memory stays for the next sequence.</summary>
    public void Reset()
    {
        Generation = 0;
        Length = 0;
        Count = 0;
        DroppedBlocks = 0;
        ShortenedAt = 0;
        DroppedAt = 0;
        Freshness.Reset();
    }
}
