using FusedAttention.Cuda.Ptx;
using FusedAttention.Devices;

namespace FusedAttention.Cuda.Kernels;

/// <summary>The decode kernel whose warps copy what they need themselves (<c>cp.async</c>): a warp takes every <c>Warps</c>-th step of 16 keys, copies it to shared memory some steps ahead, and waits for nobody.</summary>
internal sealed class CopyDecodeKernel : DecodeKernel
{
    private readonly KeyTileCopies _copies;
    private readonly KeySource _keys;
    private readonly Shared _stages;

    private CopyDecodeKernel(PtxKernel k, CallReader call, in DecodeTile tile)
        : base(k, call, tile, WorkPlace.Of(k, call, k.BlockX()), k.ThreadIndex().As("thread"))
    {
        // Keys and values are read once; partial results, which are read again, stay in the cache: 2 % at 64 sequences of 8k keys, 5 % at one of 32k.
        _copies = new(k, call, tile.Keys, 32, Lane, k.EvictFirst());
        _keys = KeySource.Of(call, Place);
        _stages = new((k.SharedMemory + tile.HeadBytes + (Warp * (tile.Stages * StageBytes))).ToI32().As("stages"));
    }

    /// <inheritdoc cref="DecodeKernel.Write(in KernelTraits, in DecodeTile, int, bool)"/>
    public static PtxKernel WriteText(in KernelTraits traits, in DecodeTile tile, bool hasLongParameters)
    {
        var k = new PtxKernel("decode", PtxTarget.Sm80, tile.BlockThreads, tile.Blocks, CallBlock.BytesOf(hasLongParameters));
        new CopyDecodeKernel(k, new(k, traits), tile).Write();
        k.Exit();
        return k;
    }

    /// <summary>Copies of the next steps are queued before each is worked on.</summary>
    protected override void AddAllKeys(Predicate isCareful)
    {
        // Copies run ahead of the work by all stages but one; so the first turns of the loop only copy, and their text is there once.
        int step = Tile.TileKeys, ahead = (Tile.Stages - 1) * step;
        I32 first = FirstStep(), ofWarp = (Warp * Tile.Keys).As("warp_offset"), groupMask = GroupMask();
        I32 next = K.Variable("next_step", first - ahead);
        Shared working = Stage("working_stage"), filling = Stage("filling_stage");
        K.While("step", () => next < Place.Item.EndKey, () =>
        {
            I32 key = next + ofWarp;
            CopyStep(filling, key + ahead);
            Predicate hasKeys = next >= first;
            next.Add(step);
            K.If(hasKeys, () =>
            {
                K.WaitForCopies(Tile.Stages - 1);
                K.WarpBarrier();
                K.If(key < Place.Item.EndKey, () => AddKeys(working, key, isCareful));
                K.WarpBarrier();
                Advance(working);
                EndStep(next, groupMask, filling);
            });
        });
    }

    protected override Predicate EndPass(Predicate again)
    {
        K.WaitForCopies(0);
        return K.BarrierAny(again);
    }

    protected override void Clean(Shared stage, I32 key) => Specials.Clean(ValuesOf(stage), _copies.ValueLayout, Tile.Keys, key, 32, Lane);

    protected override void AddProducts(F32[] scores, Pair[][] queries, Shared stage)
    {
        SharedRows layout = _copies.KeyLayout;
        if (EightBits is null)
        {
            MatrixSums.AddProducts(K, Call.QueryFormat, [scores], slice => [queries[slice]], stage, layout, Tile.Keys, Lane);
            return;
        }

        Shared mine = stage + layout.LaneOffsetOfColumns(Lane);
        EightBits.AddProducts(scores, queries, (key, columns) => mine + ((key * layout.Stride) + (columns * 32)), Call.Traits.KeyDim, Tile.Keys);
    }

    protected override void AddWeightedValues(F32[] outputs, Pair[][] weights, Shared stage)
    {
        SharedRows layout = _copies.ValueLayout;
        if (EightBits is null)
        {
            MatrixSums.AddWeightedValues(K, Call.QueryFormat, [outputs], [weights], ValuesOf(stage), layout, Lane);
            return;
        }

        Shared mine = ValuesOf(stage) + layout.LaneOffsetOfRows(Lane);
        EightBits.AddWeightedValues(outputs, weights, (key, columns) => mine + ((key * layout.Stride) + (columns * 32)), Call.Traits.ValueDim);
    }

    private Shared ValuesOf(Shared stage) => stage + _copies.KeyLayout.BytesOf(Tile.Keys);

    private Shared Stage(string name) => new(K.Variable(name, (I32)_stages.Register));

    /// <summary>Queues the copies of a step, if there is one: a group of copies either way.</summary>
    private void CopyStep(Shared stage, I32 key)
    {
        K.If(key < Place.Item.EndKey, () =>
        {
            _copies.CopyKeys(stage, key, _keys);
            _copies.CopyValues(ValuesOf(stage), key, _keys);
        });
        K.CommitCopies();
        Advance(stage);
    }

    /// <summary>The next stage, and the first one after the last.</summary>
    private void Advance(Shared stage)
    {
        var address = (I32)stage.Register;
        address.Add(StageBytes);
        I32 end = (I32)_stages.Register + (Tile.Stages * StageBytes);
        address.Set(I32.Select(address < end, address, (I32)_stages.Register));
    }
}
