using FusedAttention.Cuda.Ptx;
using FusedAttention.Devices;

namespace FusedAttention.Cuda.Kernels;

/// <summary>
/// The decode kernel for Hopper, compute capability 9.0: one more warp has the copy unit (TMA) bring tiles of 64 keys and values, of which each of the four others has 16 keys, the same ones that it would copy itself in the other
/// form.
/// </summary>
/// <remarks>
/// On an H100 it reads 3.09 TB/s at 64 sequences of 8k keys over 8 heads of 128, where the form with <c>cp.async</c> has 2.95: those who compute address no copies. Warps say one by one that they have done with a stage, and wait for each other only where splits are folded; such a stage is done with when the sums in it have been read, and what was written there has passed the fence between threads and the
/// copy unit.
/// </remarks>
internal sealed class BoxDecodeKernel : DecodeKernel
{
    /// <summary>The barrier of the warps that have keys.</summary>
    private const int TeamBarrier = 1;

    private readonly BoxStages _memory;
    private readonly StageRing _ring;
    private readonly Shared _stages;

    private BoxDecodeKernel(PtxKernel k, CallReader call, in DecodeTile tile, WorkPlace place, I32 thread, BoxStages memory)
        : base(k, call, tile, place, thread)
    {
        _memory = memory;
        _ring = new(k, "working", tile.Stages, parity: 0);
        _stages = new((memory.First + (Warp * (tile.Keys * BoxedRows.RowBytes))).ToI32().As("stages"));
    }

    /// <inheritdoc cref="DecodeKernel.Write(in KernelTraits, in DecodeTile, int, bool)"/>
    public static PtxKernel WriteText(in KernelTraits traits, in DecodeTile tile, int mostPolls, bool hasLongParameters)
    {
        var k = new PtxKernel("decode_tma", PtxTarget.Sm90a, tile.BlockThreads, tile.Blocks, WarpgroupBlock.BytesOf(hasLongParameters)) { MostPolls = mostPolls, ParameterAlignment = 64 };
        var call = new CallReader(k, traits);
        var memory = new BoxStages(k, tile, traits.KeyDim, traits.ValueDim);
        DecodeTile sizes = tile;
        I32 thread = k.ThreadIndex().As("thread");
        k.If(thread.Is(0), memory.Initialize);
        WorkPlace place = WorkPlace.Of(k, call, k.BlockX());
        k.Barrier();
        k.If(
            k.ShuffleFrom(thread >>> 5, 0).Is(tile.Warps),
            () => new DecodeLoads(k, call, sizes, place, memory, (thread & 31).As("loading_lane")).Write(),
            () => k.AsTeam(TeamBarrier, sizes.Threads, () => new BoxDecodeKernel(k, call, sizes, place, thread, memory).Write()));
        k.Exit();
        return k;
    }

    protected override void AddAllKeys(Predicate isCareful)
    {
        I32 ofWarp = (Warp * Tile.Keys).As("warp_offset"), groupMask = GroupMask();
        I32 next = K.Variable("next_step", FirstStep());
        K.While("step", () => next < Place.Item.EndKey, () =>
        {
            I32 key = next + ofWarp;
            next.Add(Tile.TileKeys);
            Shared stage = _stages + (_ring.Index * StageBytes);
            K.WaitForPhase(_memory.FullOf(_ring), _ring.Parity);
            K.If(key < Place.Item.EndKey, () =>
            {
                K.If((key < Place.Item.FirstKey) | (key + Tile.Keys > Place.Item.EndKey), () => ClearOutside(stage, key));
                AddKeys(stage, key, isCareful);
            });
            K.WarpBarrier();
            EndStep(next, groupMask, stage, Published);
            Shared empty = _memory.EmptyOf(_ring);
            K.Where(Lane.Is(0), () => K.Arrive(empty));
            _ring.Advance();
        });
    }

    /// <summary>The warp that copies is there too, and begins again with the others.</summary>
    protected override Predicate EndPass(Predicate again) => K.BarrierAny(0, Tile.BlockThreads, again);

    protected override void Clean(Shared stage, I32 key)
    {
        for (int box = 0; box < _memory.ValueRows.Boxes; box++)
            Specials.Clean(ValuesOf(stage) + (box * _memory.ValueRows.BoxBytes), BoxedRows.BoxColumns / SharedRows.Chunk, BoxedRows.RowBytes, Tile.Keys, key, 32, Lane);
        K.FenceAsyncProxy();
    }

    protected override void AddProducts(F32[] scores, Pair[][] queries, Shared stage)
    {
        if (EightBits is null)
        {
            MatrixSums.AddProducts(K, Call.QueryFormat, [scores], slice => [queries[slice]], stage, _memory.KeyRows, Tile.Keys, Lane);
            return;
        }

        Shared[] mine = BoxedRows.SlicesOf(stage + BoxedRows.LaneOffsetOfColumns(Lane));
        EightBits.AddProducts(scores, queries, (key, columns) => BoxedRows.PlaceOf(mine, columns, key, _memory.KeyRows.BoxBytes), Call.Traits.KeyDim, Tile.Keys);
    }

    protected override void AddWeightedValues(F32[] outputs, Pair[][] weights, Shared stage)
    {
        if (EightBits is null)
        {
            MatrixSums.AddWeightedValues(K, Call.QueryFormat, [outputs], [weights], ValuesOf(stage), _memory.ValueRows, Lane);
            return;
        }

        Shared[] mine = BoxedRows.SlicesOf(ValuesOf(stage) + BoxedRows.LaneOffsetOfRows(Lane));
        EightBits.AddWeightedValues(outputs, weights, (key, columns) => BoxedRows.PlaceOf(mine, columns, key, _memory.ValueRows.BoxBytes), Call.Traits.ValueDim);
    }

    private Shared ValuesOf(Shared stage) => stage + _memory.KeyRows.Bytes;

    /// <summary>What the warp wrote to a stage is behind it before the next box lands there.</summary>
    private void Published()
    {
        K.FenceAsyncProxy();
        K.WarpBarrier();
    }

    /// <summary>Zeros in the warp's rows that are none of the item's, as the other form has them: boxes bring what lies there, other sequences' keys among it, or leave what was there where there is no block. Each lane has a row, or half of one of 16.</summary>
    private void ClearOutside(Shared stage, I32 key)
    {
        int lanesOfRow = 32 / Tile.Keys, bytes = BoxedRows.RowBytes / lanesOfRow;
        I32 row = Lane & (Tile.Keys - 1), at = key + row;
        K.If((at < Place.Item.FirstKey) | (at >= Place.Item.EndKey), () =>
        {
            Shared mine = stage + (lanesOfRow == 1 ? row << 7 : (row << 7) + ((Lane >>> 4) << 6));
            I32 zero = I32.InRegister(K, 0);
            for (int box = 0; box < _memory.KeyRows.Boxes + _memory.ValueRows.Boxes; box++)
                for (int chunk = 0; chunk < bytes; chunk += 16) K.StoreVector(mine + ((box * _memory.KeyRows.BoxBytes) + chunk), zero, zero, zero, zero);
        });
        Published();
    }
}
