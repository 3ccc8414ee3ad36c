using FusedAttention.Cuda.Ptx;

namespace FusedAttention.Cuda.Kernels;

/// <summary>
/// Two warps that have the same rows of a prefill: each computes the scores and weights of one half of a tile's keys, and the weighted values of one half of their columns. So a tile is loaded for 32 rows, and
/// a thread keeps 128 of 256 columns' sums, where warps that keep all of them load it for 16: 104 loads of four matrices for 256 products at 256 dimensions, where those need 144.
/// </summary>
/// <remarks>
/// Both halves have the weights of all keys, so both know a row's sum. What decides about a row is exchanged, so the maximum is the same in both. All of it lies in shared memory, each warp's part in its own place; two turns of
/// the loop over tiles have a barrier of the block between them, which is why no place needs a second one.
/// </remarks>
internal sealed class WarpPair
{
    private const int Threads = 64;

    /// <summary>A lane's four registers of a left factor, 16 rows and columns.</summary>
    private const int BytesOfLane = 16;

    private readonly PtxKernel _k;
    private readonly PrefillTile _tile;
    private readonly I32 _lane;
    private readonly I32 _barrier;
    private readonly Shared _mine;
    private readonly Shared _others;

    /// <param name="k">The kernel.</param>
    /// <param name="tile">Its sizes.</param>
    /// <param name="places">Where the places of all warps begin.</param>
    /// <param name="warp">Its number in the block: an even one and the next are a pair, on different schedulers.</param>
    /// <param name="lane">Of the warp.</param>
    public WarpPair(PtxKernel k, PrefillTile tile, Shared places, I32 warp, I32 lane)
    {
        (_k, _tile, _lane) = (k, tile, lane);
        Half = (warp & 1).As("half");
        _barrier = ((warp >>> 1) + 1).As("pair_barrier");
        _mine = new((places + (warp * tile.PairBytesOfWarp)).ToI32().As("own_place"));
        _others = new((places + ((warp ^ 1) * tile.PairBytesOfWarp)).ToI32().As("others_place"));
    }

    /// <summary>Which half of a tile's keys, and of the columns of values, is the warp's.</summary>
    public I32 Half { get; }

    private int Fragments => _tile.RowsOfWarp / 16;

    private int Slices => _tile.KeysOfWarp / 16;

    /// <summary>Leaves the warp's weights for the other one, which may take them behind the next barrier of the pair.</summary>
    /// <param name="weights">For each 16 rows, and for each 16 keys: four registers.</param>
    public void LeaveWeights(Pair[][][] weights)
    {
        for (int m = 0; m < Fragments; m++)
            for (int slice = 0; slice < Slices; slice++) _k.StoreVector(PlaceOfWeights(_mine, m, slice), weights[m][slice]);
    }

    /// <summary>The other warp's weights, in the order of the own ones.</summary>
    public Pair[][][] TakeWeights() =>
        [.. Enumerable.Range(0, Fragments).Select(m => (Pair[][])[.. Enumerable.Range(0, Slices).Select(slice => _k.LoadVector<Pair>(PlaceOfWeights(_others, m, slice), 4))])];

    /// <summary>Waits for the other warp; what either has written to memory is seen by both.</summary>
    public void Barrier() => _k.Barrier(_barrier, Threads);

    /// <summary>The same; whether it holds in any lane of the two.</summary>
    public Predicate BarrierAny(Predicate condition) => _k.BarrierAny(_barrier, Threads, condition);

    /// <summary>What the other warp has of one of the lane's rows, where all four lanes of a row have the same.</summary>
    /// <param name="row">The lane's row number: g and g + 8 of each fragment.</param>
    /// <param name="number">A number of the row.</param>
    /// <param name="bits">And another one.</param>
    public (F32 Number, I32 Bits) Exchange(int row, F32 number, I32 bits)
    {
        _k.If((_lane & 3).Is(0), () => _k.StoreVector(PlaceOfRow(_mine, row), number.AsI32(), bits));
        Barrier();
        I32[] others = _k.LoadVector<I32>(PlaceOfRow(_others, row), 2);
        return (others[0].AsF32(), others[1]);
    }

    private Shared PlaceOfWeights(Shared place, int fragment, int slice) => place + ((_lane * BytesOfLane) + (((fragment * Slices) + slice) * (32 * BytesOfLane)));

    private Shared PlaceOfRow(Shared place, int row) => place + (((_lane >>> 2) << 3) + ((row * 64) + _tile.PairWeightBytesOfWarp));
}
