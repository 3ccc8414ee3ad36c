using FusedAttention.Cuda.Ptx;

namespace FusedAttention.Cuda.Kernels;

/// <summary>
/// Boolean masks of the tiles of a prefill, looked at one tile ahead: a tile that no row sees is not read. Bytes come to shared memory in the background, each thread's own to its own place, and become a bit a
/// key in its registers; who needs a row's bits gets them by shuffles.
/// </summary>
/// <remarks>
/// A byte a score from global memory took 1.8 times a plain causal call (D = 128; D = 64: 2.3). A tile of 64 keys costs a thread four loads of 16 bytes, some 100 instructions to pack them and, per score, one that
/// tests a bit and one that selects.
/// </remarks>
internal sealed class MaskTiles
{
    private readonly PtxKernel _k;
    private readonly PrefillTile _tile;
    private readonly WorkPlace _work;
    private readonly Shared _shared;
    private readonly I32 _thread;

    /// <summary>The bits of the tile that is worked on.</summary>
    private readonly I32[] _current;

    /// <param name="k">The kernel.</param>
    /// <param name="work">What the block works on.</param>
    /// <param name="tile">Its sizes.</param>
    /// <param name="shared"><see cref="PrefillTile.MaskBytes"/>.</param>
    /// <param name="thread">The thread's number in the block.</param>
    public MaskTiles(PtxKernel k, WorkPlace work, in PrefillTile tile, Shared shared, I32 thread)
    {
        (_k, _tile, _work, _shared, _thread) = (k, tile, work, shared, thread);
        RowReader row = work.RowAt(work.Item.FirstRow + (thread >>> int.TrailingZeroCount(LanesOfRow)));
        k.Store(RowAddress, (row.Mask! + FirstOfPart.Widen()).ToI64());
        _current = k.Registers<I32>("mask", Words);
    }

    /// <summary>
    /// The thread's bytes of a tile; behind them where its part of the row's mask begins, and the bits of the next tile that a row sees: with those in registers D = 128 spilled 13 of them.
    /// </summary>
    private Shared Place => _shared + (_thread * _tile.MaskStride);

    private Shared RowAddress => Place + _tile.MaskBytesOfLane;

    private Shared Next => RowAddress + sizeof(long);

    /// <summary>Of the keys of a tile, the first that is the thread's.</summary>
    private I32 FirstOfPart => (_thread & (LanesOfRow - 1)) * BytesOfLane;

    private int BytesOfLane => _tile.MaskBytesOfLane;

    private int Chunk => Math.Min(16, BytesOfLane);

    private int Words => (BytesOfLane + 31) / 32;

    /// <summary>Lanes that have a row between them.</summary>
    private int LanesOfRow => 32 / _tile.RowsOfWarp;

    /// <summary>Queues the copy of a tile's mask. Keys that the sequence does not have are not seen.</summary>
    /// <param name="key">The tile's first key; not negative.</param>
    public void Copy(I32 key)
    {
        Shared place = Place;
        I64 row = _k.Load<I64>(RowAddress);
        I32 keys = _work.Sequence.KeyLength - FirstOfPart, left = keys - key;
        _k.If((row.ToI32() & (Chunk - 1)).Is(0), () =>
        {
            Global from = new Global(row) + key.Widen();
            for (int at = 0; at < BytesOfLane; at += Chunk) _k.CopyCachedAsync(place + at, from + at, Chunk, I32.Max(I32.Min(left - at, Chunk), 0));
        }, () =>
        {
            // Rows that begin anywhere: byte by byte, some at a time. The last key of the sequence, which is not before the row's first one, is read for those behind it.
            I32 last = keys - 1;
            _k.For("mask_byte", 0, BytesOfLane, Chunk, at =>
            {
                for (int i = 0; i < Chunk; i += 4)
                {
                    I32 four = 0;
                    for (int j = 3; j >= 0; j--)
                    {
                        I32 index = key + at + (i + j);
                        I32 value = _k.LoadByte(new Global(row) + I32.Min(index, last).Widen());
                        four = (four << 8) | I32.Select(index <= last, value, 0);
                    }

                    _k.Store(place + at + i, four);
                }
            });
        });
    }

    /// <summary>Whether a row of the thread sees a key of the tile whose copy has ended, as far as the mask goes.</summary>
    public Predicate HasKeys() => IsAny(Bytes());

    /// <summary>Packs that tile, which is the next one that is worked on: when <see cref="Advance"/> says so.</summary>
    public void Pack()
    {
        I32[] words = [.. Bytes().Chunk(8).Select(static eight => eight.Reverse().Aggregate((I32)0, static (bits, four) => (bits << 4) | BitsOf(four)))];
        for (int word = 0; word < Words; word++) _k.Store(Next + (word * sizeof(int)), words[word]);
    }

    /// <summary>The next tile is the one that is worked on.</summary>
    public void Advance()
    {
        for (int word = 0; word < Words; word++) _k.Load(_current[word], Next + (word * sizeof(int)));
    }

    /// <summary>Whether a row of the warp sees a key of the tile that is worked on.</summary>
    public Predicate WarpSees() => _k.Any(IsAny(_current));

    /// <summary>Whether the lane's row number <paramref name="row"/> (g, g + 8, ... of the warp's) sees keys: by their distance from the lane's first key of the tile, 2 (lane % 4).</summary>
    public Func<int, Predicate> Sees(int row)
    {
        I32 owner = (((_thread & 31) >>> 2) + (8 * row)) << int.TrailingZeroCount(LanesOfRow), shift = (_thread & 3) << 1;
        I32[] words = [.. Enumerable.Range(0, LanesOfRow * Words).Select(i => _k.ShuffleFrom(_current[i % Words], owner + (i / Words)).ShiftRight(shift))];
        return column =>
        {
            int part = column / BytesOfLane, bit = column % BytesOfLane;
            return (words[(part * Words) + (bit / 32)] & (1 << (bit % 32))).IsNot(0);
        };
    }

    /// <summary>The thread's part of the tile, four bytes a register.</summary>
    private I32[] Bytes() => [.. Enumerable.Range(0, BytesOfLane / Chunk).SelectMany(chunk => _k.LoadVector<I32>(Place + (chunk * Chunk), Chunk / 4))];

    /// <summary>Four bytes as four bits: 1 where a byte is not 0. The sum carries into a byte's highest bit unless the others are 0; the product brings those four bits side by side, and no two of its terms meet.</summary>
    private static I32 BitsOf(I32 bytes)
    {
        const int Low = 0x7f7f7f7f;
        I32 highest = (((bytes & Low) + Low) | bytes) & ~Low;
        return (highest * 0x00204081) >>> 28;
    }

    private static Predicate IsAny(I32[] words) => words.Aggregate(static (a, b) => a | b).IsNot(0);
}
