using FusedAttention.Cuda.Ptx;
using FusedAttention.Devices;

namespace FusedAttention.Cuda.Kernels;

/// <summary>
/// Attention of up to 16 rows (the query heads of a key/value head, times queries) against many keys: bound by reading K and V. The rows are those of one matrix product, so a key that was loaded serves all
/// of them.
/// </summary>
/// <remarks>
/// A warp takes every <c>Warps</c>-th step of 16 keys for itself: it copies them to shared memory some steps ahead, and waits for nobody. After each split of 512 keys the warps of a block bring m, l and O together
/// (<see cref="DecodeFold"/>). An item has one split, a group of splits, or all keys of its rows; where they are several items, the last block to arrive folds what the others have left, by the same arithmetic in the same order
/// (<see cref="DecodeEnd"/>). So there is one launch, and the bits are the same on every run and for every way to cut the keys.
/// </remarks>
internal sealed class DecodeKernel
{
    private readonly PtxKernel _k;
    private readonly DecodeTile _tile;
    private readonly CallReader _call;
    private readonly WorkPlace _place;
    private readonly I32 _thread;
    private readonly I32 _lane;
    private readonly I32 _warp;
    private readonly F32 _factor;
    private readonly RowReader[] _row;
    private readonly Pair[][] _queries;
    private readonly KeyTileCopies _copies;
    private readonly KeySource _keys;
    private readonly Shared _stages;
    private readonly SpecialValues _specials;
    private readonly F32[] _outputs;
    private readonly F32[] _maximum;
    private readonly F32[] _sum;
    private readonly DecodeFold _fold;

    private DecodeKernel(in KernelTraits traits, in DecodeTile tile)
    {
        _k = new("decode", PtxTarget.Sm80, tile.Threads, tile.Blocks, CallBlock.MostParameterBytes);
        _tile = tile;
        _call = new(_k, traits);
        _place = WorkPlace.Of(_k, _call, _k.BlockX());
        _thread = _k.ThreadIndex().As("thread");
        _lane = (_thread & 31).As("lane");
        _warp = _k.ShuffleFrom(_thread >>> 5, 0).As("warp");
        _factor = ScoreWriter.Factor(_call).As("factor");
        // Rows beyond the item's repeat its last one, and are not stored.
        I32 firstRow = _place.Item.FirstRow + (_lane >>> 2);
        _row = [_place.RowAt(firstRow), _place.RowAt(firstRow + 8)];
        _queries = QueryFactors.Load(_k, _call, _row, _lane);
        // Keys and values are read once; partial results, which are read again, stay in the cache: 2 % at 64 sequences of 8k keys, 5 % at one of 32k.
        _copies = new(_k, _call, tile.Keys, 32, _lane, _k.EvictFirst());
        _keys = KeySource.Of(_call, _place);
        int ofWarp = tile.Stages * tile.StageBytes(traits.KeyDim, traits.ValueDim);
        _stages = new((_k.SharedMemory + tile.HeadBytes + (_warp * ofWarp)).ToI32().As("stages"));
        _specials = new(_k, _call, _k.SharedMemory, _thread);
        _outputs = _k.Registers<F32>("o", traits.ValueDim / 2);
        _maximum = _k.Registers<F32>("m", 2);
        _sum = _k.Registers<F32>("l", 2);
        _fold = new(_k, _call, tile, _lane, _warp, _thread, _factor);
    }

    /// <param name="traits">What it is specialised for: 16-bit elements of one type, dimensions that are multiples of 8.</param>
    /// <param name="tile">Its sizes.</param>
    public static PtxKernel Write(in KernelTraits traits, in DecodeTile tile)
    {
        var kernel = new DecodeKernel(traits, tile);
        kernel.Write();
        return kernel._k;
    }

    private int StageBytes => _tile.StageBytes(_call.Traits.KeyDim, _call.Traits.ValueDim);

    private void Write()
    {
        Predicate isCareful = _k.Variable("is_careful", value: false);
        _k.Repeat("pass", () =>
        {
            AddAllKeys(isCareful);
            Predicate isSuspect = !AreFinite(_fold.Whole().Outputs);
            _k.WaitForCopies(0);
            Predicate again = _k.BarrierAny(isSuspect & !isCareful);
            isCareful.Set(isCareful | again);
            _k.If(again, () =>
            {
                _specials.Reset();
                _k.Barrier();
            });
            return again;
        });
        // Looked up again: registers that the loop does not need are few.
        WorkPlace place = WorkPlace.Of(_k, _call, _k.BlockX());
        new DecodeEnd(_k, _call, place, _tile, _lane, _warp, _thread, ScoreWriter.Unit(_call), _factor).Write(_fold.Whole(), isCareful, _specials);
        _k.Exit();
    }

    /// <summary>The steps of the block, in which each warp has keys of its own: copies of the next ones are queued before each is worked on.</summary>
    private void AddAllKeys(Predicate isCareful)
    {
        _fold.Clear();
        BeginSplit();

        // Steps begin at multiples of their keys, wherever an item does. Copies run ahead of the work by all stages but one; so the first turns of the loop only copy, and their text is there once.
        int step = _tile.Keys * _tile.Warps, ahead = (_tile.Stages - 1) * step;
        I32 first = (_place.Item.FirstKey & -step).As("first_step"), ofWarp = (_warp * _tile.Keys).As("warp_offset");
        I32 inGroup = (I32.ShiftLeft(I32.InRegister(_k, 1), _place.Item.GroupShift) - 1).As("group_mask");
        I32 next = _k.Variable("next_step", first - ahead);
        Shared working = Stage("working_stage"), filling = Stage("filling_stage");
        _k.While("step", () => next < _place.Item.EndKey, () =>
        {
            I32 key = next + ofWarp;
            CopyStep(filling, key + ahead);
            Predicate hasKeys = next >= first;
            next.Add(step);
            _k.If(hasKeys, () =>
            {
                _k.WaitForCopies(_tile.Stages - 1);
                _k.WarpBarrier();
                _k.If(key < _place.Item.EndKey, () => AddKeys(working, key, isCareful));
                _k.WarpBarrier();
                Advance(working);
                Predicate isEnd = next >= _place.Item.EndKey;
                _k.If(isEnd | (next & (DecodeTile.SplitKeys - 1)).Is(0), () =>
                {
                    _fold.Take(filling, _outputs, _maximum, _sum, isEnd | (next & inGroup).Is(0));
                    BeginSplit();
                });
            });
        });
    }

    private void BeginSplit()
    {
        foreach (F32 output in _outputs) output.Set(0);
        foreach (F32 maximum in _maximum) maximum.Set(float.NegativeInfinity);
        foreach (F32 sum in _sum) sum.Set(0);
    }

    private Shared Stage(string name) => new(_k.Variable(name, (I32)_stages.Register));

    /// <summary>Queues the copies of a step, if there is one: a group of copies either way.</summary>
    private void CopyStep(Shared stage, I32 key)
    {
        _k.If(key < _place.Item.EndKey, () =>
        {
            _copies.CopyKeys(stage, key, _keys);
            _copies.CopyValues(stage + _copies.KeyLayout.BytesOf(_tile.Keys), key, _keys);
        });
        _k.CommitCopies();
        Advance(stage);
    }

    /// <summary>The next stage, and the first one after the last.</summary>
    private void Advance(Shared stage)
    {
        var address = (I32)stage.Register;
        address.Add(StageBytes);
        I32 end = (I32)_stages.Register + (_tile.Stages * StageBytes);
        address.Set(I32.Select(address < end, address, (I32)_stages.Register));
    }

    /// <summary>Takes one step of keys through products, softmax and weighted sums.</summary>
    private void AddKeys(Shared stage, I32 key, Predicate isCareful)
    {
        Shared values = stage + _copies.KeyLayout.BytesOf(_tile.Keys);
        _k.If(isCareful, () =>
        {
            _specials.Clean(values, _copies.ValueLayout, _tile.Keys, key, 32, _lane);
            _k.WarpBarrier();
        });

        F32[] scores = Products(stage);
        Finish(scores, key);
        Pair[][] weights = Softmax(scores);
        MatrixSums.AddWeightedValues(_k, _call.KeyValueFormat, [_outputs], [weights], values, _copies.ValueLayout, _lane);
    }

    /// <summary>S = Q K^T: four registers for eight keys.</summary>
    private F32[] Products(Shared keys)
    {
        F32[] scores = _k.Registers<F32>("s", _tile.Keys / 2);
        foreach (F32 score in scores) score.Set(0);
        MatrixSums.AddProducts(_k, _call.KeyValueFormat, [scores], slice => [_queries[slice]], keys, _copies.KeyLayout, _tile.Keys, _lane);
        return scores;
    }

    /// <summary>From products to scores: modifications, and the ends of what rows may see, where a step reaches over them.</summary>
    private void Finish(F32[] scores, I32 key)
    {
        I32 first = (key + ((_lane & 3) << 1)).As("first_key");
        for (int r = 0; r < 2; r++) ScoreWriter.Modify(_k, _call, _row[r], RowOf(scores, r), first);
        Predicate ReachesOver(RowReader row) => (key < row.Start) | (key + _tile.Keys > row.End);
        _k.If(_k.Any(ReachesOver(_row[0]) | ReachesOver(_row[1])), () =>
        {
            for (int r = 0; r < 2; r++) ScoreWriter.Hide(_row[r], RowOf(scores, r), first);
        });
    }

    /// <summary>The lane's scores of row g (0) or g + 8 (1), and the columns of their keys, from the lane's first one.</summary>
    private static (F32 Score, int Column)[] RowOf(F32[] scores, int r) => [.. Enumerable.Range(0, scores.Length / 2).Select(i => (scores[(i / 2 * 4) + (2 * r) + (i & 1)], (i / 2 * 8) + (i & 1)))];

    /// <summary>Weights, as the left factor of P V; m, l and O are brought up to date.</summary>
    private Pair[][] Softmax(F32[] scores)
    {
        var rescale = new F32[2];
        for (int r = 0; r < 2; r++)
        {
            F32[] own = [.. RowOf(scores, r).Select(static element => element.Score)];
            F32 largest = own.Aggregate(F32.Max);
            F32 newMaximum = F32.Max(_maximum[r], _k.Max(largest, 1, 4));
            F32 @base = ScoreWriter.BaseOf(newMaximum);
            rescale[r] = ScoreWriter.WeightOf(_maximum[r], @base, _factor);
            _maximum[r].Set(newMaximum);
            foreach (F32 score in own) score.Set(ScoreWriter.WeightOf(score, @base, _factor));
            F32 sum = own[1..].Aggregate(own[0], (x, y) => x + y);
            _sum[r].Set(F32.MultiplyAdd(_sum[r], rescale[r], sum));
        }

        _k.If(_k.Any(rescale[0].IsNot(1) | rescale[1].IsNot(1)), () =>
        {
            for (int i = 0; i < _outputs.Length; i++) _outputs[i].Multiply(rescale[i >> 1 & 1]);
        });
        return MatrixSums.LeftFactors(_call.KeyValueFormat, scores);
    }

    /// <summary>Whether all of the lane's sums are numbers: a sum of them would be infinite or NaN otherwise, whatever the others are.</summary>
    private static Predicate AreFinite(F32[] outputs)
    {
        F32 together = outputs[0] * 0;
        foreach (F32 output in outputs.AsSpan(1)) together = F32.MultiplyAdd(output, 0, together);
        return together.IsFinite();
    }
}
