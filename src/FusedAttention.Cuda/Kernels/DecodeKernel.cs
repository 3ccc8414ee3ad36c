using FusedAttention.Cuda.Ptx;
using FusedAttention.Devices;

namespace FusedAttention.Cuda.Kernels;

/// <summary>
/// Attention of up to 16 rows (the query heads of a key/value head, times queries) against many keys: bound by reading K and V. The rows are those of one matrix product, so a key that was loaded serves all
/// of them.
/// </summary>
/// <remarks>
/// A warp takes every <c>Warps</c>-th step of 16 keys for itself: it copies them to shared memory some steps ahead, and waits for nobody. Blocks of threads stay and take one item after the other, so the first
/// keys of the next item are on their way while the warps of a block bring m, l and O of one together. Where the keys of a sequence are split, the last block to arrive merges the splits in their order: there is
/// one launch, and the same bits on every run.
/// </remarks>
internal sealed class DecodeKernel
{
    private readonly PtxKernel _k;
    private readonly DecodeTile _tile;
    private readonly CallReader _call;
    private readonly I32 _thread;
    private readonly I32 _lane;
    private readonly I32 _warp;
    private readonly F32 _unit;
    private readonly F32 _factor;
    private readonly KeyTileCopies _copies;
    private readonly Shared _stages;
    private readonly SpecialValues _specials;
    private readonly F32[] _outputs;
    private readonly F32[] _maximum;
    private readonly F32[] _sum;
    private readonly Shared _working;
    private readonly Shared _filling;
    private readonly KeySource _ahead;
    private readonly I32 _aheadKey;
    private readonly I32 _aheadWork;

    private DecodeKernel(in KernelTraits traits, in DecodeTile tile)
    {
        _k = new("decode", PtxTarget.Sm80, tile.Threads, tile.Blocks, CallBlock.MostParameterBytes);
        _tile = tile;
        _call = new(_k, traits);
        _thread = _k.ThreadIndex().As("thread");
        _lane = (_thread & 31).As("lane");
        _warp = _k.ShuffleFrom(_thread >>> 5, 0).As("warp");
        _unit = ScoreWriter.Unit(_call);
        _factor = ScoreWriter.Factor(_call).As("factor");
        // Keys and values are read once; partial results, which are read again, stay in the cache: 2 % at 64 sequences of 8k keys, 5 % at one of 32k.
        _copies = new(_k, _call, tile.Keys, 32, _lane, _k.EvictFirst());
        int ofWarp = tile.Stages * tile.StageBytes(traits.KeyDim, traits.ValueDim);
        _stages = new((_k.SharedMemory + (tile.HeadBytes + tile.SumBytes(traits.ValueDim)) + (_warp * ofWarp)).ToI32().As("stages"));
        _specials = new(_k, _call, _k.SharedMemory, _thread);
        _outputs = _k.Registers<F32>("o", traits.ValueDim / 2);
        _maximum = _k.Registers<F32>("m", 2);
        _sum = _k.Registers<F32>("l", 2);
        (_working, _filling) = (Stage("working_stage"), Stage("filling_stage"));
        _ahead = KeySource.Variable(_k, "ahead");
        _aheadKey = _k.Variable("ahead_key", (I32)0);
        _aheadWork = _k.Variable("ahead_work", _k.BlockX() - _k.BlocksX());
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

    /// <summary>Keys from a step of a warp to its next one.</summary>
    private int StepKeys => _tile.Keys * _tile.Warps;

    private void Write()
    {
        // A step ahead for each stage but one; from then on each step of work queues the copies of another one.
        _k.For("stage", 0, _tile.Stages - 1, 1, _ => CopyAhead());
        I32 work = _k.Variable("work", _k.BlockX());
        _k.While("work", () => work < _call.WorkCount, () =>
        {
            new Item(this, WorkPlace.Of(_k, _call, work)).Write();
            work.Add(_k.BlocksX());
        });
        _k.Exit();
    }

    /// <summary>The warp's first key of an item.</summary>
    private I32 FirstKeyOf(I32 firstKey) => (firstKey & -_tile.Keys) + (_warp * _tile.Keys);

    /// <summary>Queues the copies of the warp's next step, of this item or of the next one that has any for it; a group of copies either way.</summary>
    private void CopyAhead()
    {
        _k.While("seek", () => (_aheadKey >= _ahead.EndKey) & (_aheadWork < _call.WorkCount - _k.BlocksX()), () =>
        {
            _aheadWork.Add(_k.BlocksX());
            _ahead.Set(KeySource.Of(_call, WorkPlace.Of(_k, _call, _aheadWork)));
            _aheadKey.Set(FirstKeyOf(_ahead.FirstKey));
        });
        _k.If(_aheadKey < _ahead.EndKey, () => Copy(_filling, _aheadKey, _ahead));
        _k.CommitCopies();
        _aheadKey.Add(StepKeys);
        Advance(_filling);
    }

    private void Copy(Shared stage, I32 key, KeySource source)
    {
        _copies.CopyKeys(stage, key, source);
        _copies.CopyValues(stage + _copies.KeyLayout.BytesOf(_tile.Keys), key, source);
    }

    private Shared Stage(string name) => new(_k.Variable(name, (I32)_stages.Register));

    /// <summary>The next stage, and the first one after the last.</summary>
    private void Advance(Shared stage)
    {
        var address = (I32)stage.Register;
        address.Add(StageBytes);
        I32 end = (I32)_stages.Register + (_tile.Stages * StageBytes);
        address.Set(I32.Select(address < end, address, (I32)_stages.Register));
    }

    /// <summary>Whether all of the lane's sums are numbers: a sum of them would be infinite or NaN otherwise, whatever the others are.</summary>
    private Predicate AreFinite()
    {
        F32 together = _outputs[0] * 0;
        foreach (F32 output in _outputs.AsSpan(1)) together = F32.MultiplyAdd(output, 0, together);
        return together.IsFinite();
    }

    /// <summary>One item of work.</summary>
    private sealed class Item
    {
        private readonly DecodeKernel _kernel;
        private readonly PtxKernel _k;
        private readonly CallReader _call;
        private readonly DecodeTile _tile;
        private readonly WorkPlace _place;
        private readonly RowReader[] _row;
        private readonly Pair[][] _queries;

        public Item(DecodeKernel kernel, WorkPlace place)
        {
            (_kernel, _k, _call, _tile, _place) = (kernel, kernel._k, kernel._call, kernel._tile, place);
            // Rows beyond the item's repeat its last one, and are not stored.
            I32 first = place.Item.FirstRow + (kernel._lane >>> 2);
            _row = [place.RowAt(first), place.RowAt(first + 8)];
            _queries = QueryFactors.Load(_k, _call, _row, kernel._lane);
        }

        private SharedRows ValueLayout => _kernel._copies.ValueLayout;

        public void Write()
        {
            Predicate isCareful = _k.Variable("is_careful", value: false);
            _k.Repeat("pass", () =>
            {
                AddAllKeys(isCareful);
                Predicate again = _k.BarrierAny(!_kernel.AreFinite() & !isCareful);
                isCareful.Set(isCareful | again);
                _k.If(again, () =>
                {
                    _kernel._specials.Reset();
                    _k.Barrier();
                });
                return again;
            });
            new DecodeSums(_k, _call, _place, _tile, _kernel._lane, _kernel._warp, _kernel._thread, _kernel._unit, _kernel._factor)
                .Combine(_kernel._outputs, _kernel._maximum, _kernel._sum, isCareful, _kernel._specials, _place.RowAt);
        }

        private void AddAllKeys(Predicate isCareful)
        {
            foreach (F32 output in _kernel._outputs) output.Set(0);
            foreach (F32 maximum in _kernel._maximum) maximum.Set(float.NegativeInfinity);
            foreach (F32 sum in _kernel._sum) sum.Set(0);
            I32 key = _k.Variable("key", _kernel.FirstKeyOf(_place.Item.FirstKey));
            I32 stage = I32.In(_k).As("stage_address");
            _k.While("step", () => key < _place.Item.EndKey, () =>
            {
                _k.If(
                    isCareful,
                    () => CopyAgain(stage, key),
                    () =>
                    {
                        _kernel.CopyAhead();
                        _k.WaitForCopies(_tile.Stages - 1);
                        _k.WarpBarrier();
                        stage.Set((I32)_kernel._working.Register);
                        _kernel.Advance(_kernel._working);
                    });
                AddKeys(new(stage), key);
                _k.WarpBarrier();
                key.Add(_kernel.StepKeys);
            });
        }

        /// <summary>In the second pass the stages ahead are full of the next steps: the one that would be filled next is free, and each step waits for its copies. Special values become zero.</summary>
        private void CopyAgain(I32 stage, I32 key)
        {
            stage.Set((I32)_kernel._filling.Register);
            _kernel.Copy(new(stage), key, KeySource.Of(_call, _place));
            _k.CommitCopies();
            _k.WaitForCopies(0);
            _k.WarpBarrier();
            _kernel._specials.Clean(ValuesOf(new(stage)), ValueLayout, _tile.Keys, key, 32, _kernel._lane);
            _k.WarpBarrier();
        }

        private Shared ValuesOf(Shared stage) => stage + _kernel._copies.KeyLayout.BytesOf(_tile.Keys);

        /// <summary>Takes one step of keys through products, softmax and weighted sums.</summary>
        private void AddKeys(Shared stage, I32 key)
        {
            F32[] scores = _k.Registers<F32>("s", _tile.Keys / 2);
            foreach (F32 score in scores) score.Set(0);
            MatrixSums.AddProducts(_k, _call.KeyValueFormat, [scores], slice => [_queries[slice]], stage, _kernel._copies.KeyLayout, _tile.Keys, _kernel._lane);
            Finish(scores, key);
            Pair[][] weights = Softmax(scores);
            MatrixSums.AddWeightedValues(_k, _call.KeyValueFormat, [_kernel._outputs], [weights], ValuesOf(stage), ValueLayout, _kernel._lane);
        }

        /// <summary>From products to scores: modifications, and the ends of what rows may see, where a step reaches over them.</summary>
        private void Finish(F32[] scores, I32 key)
        {
            I32 first = (key + ((_kernel._lane & 3) << 1)).As("first_key");
            for (int r = 0; r < 2; r++) ScoreWriter.Modify(_k, _call, _row[r], RowOf(scores, r), first);
            Predicate ReachesOver(RowReader row) => (key < row.Start) | (key + _tile.Keys > row.End);
            _k.If(_k.Any(ReachesOver(_row[0]) | ReachesOver(_row[1])), () =>
            {
                for (int r = 0; r < 2; r++) ScoreWriter.Hide(_row[r], RowOf(scores, r), first);
            });
        }

        /// <summary>The lane's scores of row g (0) or g + 8 (1), and the columns of their keys, from the lane's first one.</summary>
        private static (F32 Score, int Column)[] RowOf(F32[] scores, int r) =>
            [.. Enumerable.Range(0, scores.Length / 2).Select(i => (scores[(i / 2 * 4) + (2 * r) + (i & 1)], (i / 2 * 8) + (i & 1)))];

        /// <summary>Weights, as the left factor of P V; m, l and O are brought up to date.</summary>
        private Pair[][] Softmax(F32[] scores)
        {
            F32[] maximum = _kernel._maximum, sum = _kernel._sum, outputs = _kernel._outputs;
            var rescale = new F32[2];
            for (int r = 0; r < 2; r++)
            {
                F32[] own = [.. RowOf(scores, r).Select(static element => element.Score)];
                F32 newMaximum = F32.Max(maximum[r], _k.Max(own.Aggregate(F32.Max), 1, 4));
                F32 @base = ScoreWriter.BaseOf(newMaximum);
                rescale[r] = ScoreWriter.WeightOf(maximum[r], @base, _kernel._factor);
                maximum[r].Set(newMaximum);
                foreach (F32 score in own) score.Set(ScoreWriter.WeightOf(score, @base, _kernel._factor));
                sum[r].Set(F32.MultiplyAdd(sum[r], rescale[r], own[1..].Aggregate(own[0], static (x, y) => x + y)));
            }

            _k.If(_k.Any(rescale[0].IsNot(1) | rescale[1].IsNot(1)), () =>
            {
                for (int i = 0; i < outputs.Length; i++) outputs[i].Multiply(rescale[i >> 1 & 1]);
            });
            return MatrixSums.LeftFactors(_call.KeyValueFormat, scores);
        }
    }
}
