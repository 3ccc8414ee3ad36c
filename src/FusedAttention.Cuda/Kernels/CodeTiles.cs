using FusedAttention.Cuda.Ptx;

namespace FusedAttention.Cuda.Kernels;

/// <summary>
/// Tiles of 8-bit keys and values on their way through a prefill: codes and scales come to shared memory in the background, and once a tile all threads widen them into one of 16 bits, which the products read as any other.
/// Keys are their codes, which is exact: their scales are multiplied into the scores. Values are multiplied by theirs and rounded, as a tensor of 16 bits would hold them.
/// </summary>
/// <remarks>Scales of keys that are not the item's are zero.</remarks>
internal sealed class CodeTiles
{
    private const int CodesOfChunk = 16;

    private readonly PtxKernel _k;
    private readonly CallReader _call;
    private readonly KeySource _source;
    private readonly KeyTileCopies _copies;
    private readonly EightBits _codes;
    private readonly ScaleRows? _keyScales;
    private readonly ScaleRows? _valueScales;
    private readonly int _keys;
    private readonly int _threads;
    private readonly I32 _thread;

    /// <param name="k">The kernel.</param>
    /// <param name="call">The call.</param>
    /// <param name="place">What the block works on.</param>
    /// <param name="source">Its keys.</param>
    /// <param name="copies">Of the codes.</param>
    /// <param name="tile">The kernel's sizes.</param>
    /// <param name="thread">The thread's number in the block.</param>
    public CodeTiles(PtxKernel k, CallReader call, WorkPlace place, KeySource source, KeyTileCopies copies, in PrefillTile tile, I32 thread)
    {
        (_k, _call, _source, _copies, _keys, _threads, _thread) = (k, call, source, copies, tile.Keys, tile.Threads, thread);
        _codes = new(k, call.KeyValueFormat, call.QueryFormat);
        _keyScales = ScaleRows.Keys(k, call, place.Sequence, place.Item.Sequence, place.Head);
        _valueScales = ScaleRows.Values(k, call, place.Sequence, place.Item.Sequence, place.Head);
    }

    public bool HasKeyScales => _keyScales is not null;

    private int ValuesOffset => _copies.KeyLayout.BytesOf(_keys);

    private int ScalesOffset => ValuesOffset + _copies.ValueLayout.BytesOf(_keys);

    /// <summary>Queues the copies of a tile.</summary>
    public void Copy(Shared stage, I32 first)
    {
        _copies.CopyKeys(stage, first, _source);
        _copies.CopyValues(stage + ValuesOffset, first, _source);
        if (_keyScales is null && _valueScales is null) return;
        _k.For("scale_of_tile", _thread, _keys, _threads, number =>
        {
            I32 key = first + number;
            I32 taken = I32.Select((key >= _source.FirstKey) & (key < _source.EndKey), sizeof(float), 0);

            // The nearest key's place is named where there is none, and not read.
            I32 there = I32.Max(I32.Min(key, _source.EndKey - 1), _source.FirstKey);
            Shared to = stage + ScalesOffset + (number << 2);
            if (_keyScales is not null) _k.CopyCachedAsync(to, _keyScales.Of(there), sizeof(float), taken);
            if (_valueScales is not null) _k.CopyCachedAsync(to + (_keys * sizeof(float)), _valueScales.Of(there), sizeof(float), taken);
        });
    }

    /// <summary>Widens a tile. All threads wait for each other before and after.</summary>
    /// <param name="stage">The codes.</param>
    /// <param name="keys">Where the keys go.</param>
    /// <param name="values">Where the values go.</param>
    public void Widen(Shared stage, Shared keys, Shared values)
    {
        Widen("key_codes", stage, _copies.KeyLayout, keys, new(_call.Traits.KeyDim), null);
        Shared? scales = _valueScales is null ? null : stage + ScalesOffset + (_keys * sizeof(float));
        Widen("value_codes", stage + ValuesOffset, _copies.ValueLayout, values, new(_call.Traits.ValueDim), scales);
    }

    /// <summary>The scales of two neighbouring keys of a tile.</summary>
    /// <param name="stage">The codes.</param>
    /// <param name="key">The first of the two, an even number.</param>
    public F32[] KeyScales(Shared stage, I32 key) => _k.LoadVector<F32>(stage + ScalesOffset + (key << 2), 2);

    private void Widen(string name, Shared from, SharedRows codes, Shared to, SharedRows layout, Shared? scales)
    {
        int chunks = layout.Dim / CodesOfChunk;
        _k.For(name, _thread, _keys * chunks, _threads, index =>
        {
            I32 row = I32.Quotient(index, chunks), chunk = index - (row * chunks);
            Pair[] packed = _k.LoadVector<Pair>(from + I32.MultiplyAdd(row, codes.Stride, chunk << 4), 4);
            F32? scale = scales is null ? null : _k.Load<F32>(scales + (row << 2));
            var wide = new Pair[8];
            for (int i = 0; i < packed.Length; i++)
            {
                (Pair first, Pair second) = _codes.Neighbours(packed[i]);
                (wide[2 * i], wide[(2 * i) + 1]) = (Scaled(first, scale), Scaled(second, scale));
            }

            Shared at = to + I32.MultiplyAdd(row, layout.Stride, chunk << 5);
            _k.StoreVector(at, wide[..4]);
            _k.StoreVector(at + 16, wide[4..]);
        });
    }

    private Pair Scaled(Pair numbers, F32? scale)
    {
        if (scale is null) return numbers;
        (F32 first, F32 second) = numbers.Widen(_call.QueryFormat);
        return Pair.Of(_call.QueryFormat, first * scale, second * scale);
    }
}
