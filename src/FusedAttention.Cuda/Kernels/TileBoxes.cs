using System.Numerics;
using FusedAttention.Cuda.Ptx;

namespace FusedAttention.Cuda.Kernels;

/// <summary>Tiles of keys, or of values, that the copy unit brings as boxes, by one warp.</summary>
internal sealed class TileBoxes
{
    private readonly PtxKernel _k;
    private readonly CallReader _call;
    private readonly int _keys;
    private readonly I32 _lane;
    private readonly Predicate _isElected;
    private readonly I64? _policy;

    /// <param name="k">The kernel.</param>
    /// <param name="call">The call.</param>
    /// <param name="keys">Of a tile.</param>
    /// <param name="lane">Of the warp.</param>
    /// <param name="isElected">Whether it is the lane that speaks for the warp.</param>
    /// <param name="policy">Of the second-level cache; null: as with anything.</param>
    public TileBoxes(PtxKernel k, CallReader call, int keys, I32 lane, Predicate isElected, I64? policy = null) =>
        (_k, _call, _keys, _lane, _isElected, _policy) = (k, call, keys, lane, isElected, policy);

    /// <summary>Rows of a box of a paged cache: as many tokens as lie in one block and in one tile.</summary>
    public static int BoxRows(int blockSize, int keys) => blockSize == 0 ? keys : (int)BigInteger.GreatestCommonDivisor(blockSize, keys);

    /// <summary>Where a sequence begins along the tokens of a map. Starts and strides are multiples of a vector, 8 elements, and in these units numbers of 32 bits.</summary>
    public static I32 TokenOf(I64 start, I64 stride, I32 isBatched) => I32.Select(isBatched.IsNot(0), 0, I32.Quotient((start >>> 3).ToI32(), (stride >>> 3).ToI32()));

    /// <summary>
    /// The block of the lane's box of a tile of a paged cache, before the tile's stage is free: looking it up takes as long as a copy. Null where there are no blocks, or more boxes than lanes.
    /// </summary>
    public I32? BlockAhead(BoxSource source, I32 key)
    {
        if (_call.Traits.BlockSize == 0 || RowsOfBox * 32 < _keys) return null;
        I32 id = _k.Variable("block_id", (I32)0);
        (I32 begin, I32 end) = BoxesOf(source, key);
        _k.If((_lane >= begin) & (_lane < end), () => id.Set(BlockOf(source, key + (_lane * RowsOfBox)).Id));
        return id;
    }

    /// <summary>Queues the copy of a tile.</summary>
    /// <param name="source">Where from.</param>
    /// <param name="layout">Of the tile in shared memory.</param>
    /// <param name="to">Where to.</param>
    /// <param name="key">The tile's first.</param>
    /// <param name="arrivals">What counts its bytes.</param>
    /// <param name="block">What <see cref="BlockAhead"/> has found.</param>
    public void CopyTile(BoxSource source, BoxedRows layout, Shared to, I32 key, Shared arrivals, I32? block)
    {
        if (_call.Traits.BlockSize > 0)
        {
            CopyPages(source, layout, to, key, arrivals, block);
            return;
        }

        _k.If(_isElected, () =>
        {
            _k.ArriveExpecting(arrivals, layout.Bytes);
            for (int box = 0; box < layout.Boxes; box++)
                _k.CopyBox(to + (box * layout.BoxBytes), new(source.Map, box * BoxedRows.BoxColumns, source.Token + key, source.Head, source.Batch), arrivals, _policy);
        });
    }

    private int RowsOfBox => BoxRows(_call.Traits.BlockSize, _keys);

    /// <summary>A lane for each box of rows, as many as lie in one block and one tile: those that have no block are not read. With blocks of one token a box is a row of 128 bytes.</summary>
    private void CopyPages(BoxSource source, BoxedRows layout, Shared to, I32 key, Shared arrivals, I32? found)
    {
        (I32 begin, I32 end) = BoxesOf(source, key);
        _k.Where(_isElected, () => _k.ArriveExpecting(arrivals, (end - begin) * (RowsOfBox * BoxedRows.RowBytes * layout.Boxes)));
        _k.WarpBarrier();
        if (found is not null) _k.If((_lane >= begin) & (_lane < end), () => CopyPage(_lane, found));
        else _k.For("page", begin + _lane, end, 32, page => CopyPage(page, null));

        void CopyPage(I32 page, I32? id)
        {
            (I32 first, I32 block) = BlockOf(source, key + (page * RowsOfBox), id);
            Shared rows = to + (page * (RowsOfBox * BoxedRows.RowBytes));
            for (int box = 0; box < layout.Boxes; box++)
                _k.CopyBox(rows + (box * layout.BoxBytes), new(source.Map, box * BoxedRows.BoxColumns, first, source.Head, block), arrivals, _policy);
        }
    }

    /// <summary>Of a tile's boxes those that have blocks, in which tokens lie: from the first, and behind the last.</summary>
    private (I32 Begin, I32 End) BoxesOf(BoxSource source, I32 key) =>
        (I32.Quotient(I32.Max(source.FirstValid - key, 0), RowsOfBox), I32.Quotient(I32.Max(I32.Min(source.EndValid - key, _keys), 0) + (RowsOfBox - 1), RowsOfBox));

    /// <summary>Where a token lies: its place in its block, and the block's number.</summary>
    private (I32 Token, I32 Id) BlockOf(BoxSource source, I32 token, I32? id = null)
    {
        int blockSize = _call.Traits.BlockSize;
        I32 block = I32.Quotient(token, blockSize);
        return (token - (block * blockSize), id ?? _call.BlockId(source.BlockTableStart, block));
    }
}

/// <summary>Where tiles come from.</summary>
/// <param name="Map">Of the tensor.</param>
/// <param name="Head">The key/value head.</param>
/// <param name="Token">Of the sequence's first key.</param>
/// <param name="Batch">Of the sequence.</param>
/// <param name="BlockTableStart">Of the sequence.</param>
/// <param name="FirstValid">What lies in front of this key is no token of the sequence.</param>
/// <param name="EndValid">Nor what lies from here on.</param>
internal sealed record BoxSource(I64 Map, I32 Head, I32 Token, I32 Batch, I64 BlockTableStart, I32 FirstValid, I32 EndValid);
