using FusedAttention.Cuda.Ptx;

namespace FusedAttention.Cuda.Kernels;

/// <summary>What a decode block has of its item: at the end of each split its warps bring m, l and O together, which are folded into the group, and that into the whole (<see cref="SplitFold"/>).</summary>
/// <remarks>
/// The warps leave their sums in the stage that will be filled next, so the copies that are under way run on, while a fold takes half a microsecond of the 22 that a block takes for a split (an H100, two blocks a multiprocessor). In a stage of boxes each has its own rows for that, so none waits for others to have read theirs.
/// </remarks>
internal sealed class DecodeFold
{
    /// <summary>Of the head of shared memory: m and l of each warp and row, behind what <see cref="SpecialValues"/> has.</summary>
    private const int StatisticsOffset = 64;

    private readonly PtxKernel _k;
    private readonly DecodeTile _tile;
    private readonly int _valueDim;
    private readonly bool _alternates;
    private readonly int _ofWarp;
    private readonly I32 _lane;
    private readonly I32 _warp;
    private readonly F32 _factor;
    private readonly KeptSums _group;
    private readonly KeptSums _whole;
    private readonly Predicate _isGroupEmpty;
    private readonly Predicate _isWholeEmpty;

    /// <param name="k">The kernel.</param>
    /// <param name="call">The call.</param>
    /// <param name="tile">Its sizes.</param>
    /// <param name="lane">Of the warp.</param>
    /// <param name="warp">Of the block.</param>
    /// <param name="thread">Of the block.</param>
    /// <param name="factor">Of the exponential.</param>
    public DecodeFold(PtxKernel k, CallReader call, in DecodeTile tile, I32 lane, I32 warp, I32 thread, F32 factor)
    {
        (_k, _tile, _lane, _warp, _factor, _valueDim) = (k, tile, lane, warp, factor, call.Traits.ValueDim);
        _alternates = call.KeyValueFormat.Bytes() == 1;
        int keyDim = call.Traits.KeyDim, columnBlocks = tile.ColumnBlocks(_valueDim);
        // Of boxes a warp has its own 16 or 32 rows, the same place in each: 2 KB, four blocks of columns, or twice that.
        _ofWarp = tile.HasBoxes ? tile.Keys * BoxedRows.RowBytes : tile.Stages * tile.StageBytes(keyDim, _valueDim);
        int inShared = tile.SumsInShared(keyDim, _valueDim);
        Shared? home = inShared > 0 ? k.SharedMemory + tile.StagedBytes(keyDim, _valueDim) + (thread << 4) : null;
        _group = new(k, "group", columnBlocks, tile.Threads, inShared > 1 ? home : null);
        _whole = new(k, "whole", columnBlocks, tile.Threads, home is null ? null : home + ((inShared - 1) * KeptSums.BytesOf(tile.Threads, columnBlocks)));
        _isGroupEmpty = k.Variable("is_group_empty", value: true);
        _isWholeEmpty = k.Variable("is_whole_empty", value: true);
    }

    /// <summary>Nothing so far.</summary>
    public void Clear()
    {
        _whole.Clear();
        _isGroupEmpty.Set(true);
        _isWholeEmpty.Set(true);
    }

    /// <summary>Takes a split from the sums of the warps. All threads of the block are here.</summary>
    /// <param name="place">Where the warp leaves its sums: what it has of the stage that will be filled next.</param>
    /// <param name="outputs">O of the warp.</param>
    /// <param name="maximum">m of its rows g and g + 8.</param>
    /// <param name="sum">What the lane has of l.</param>
    /// <param name="endsGroup">Whether it is the last split of its group, or of the item.</param>
    public void Take(Shared place, F32[] outputs, F32[] maximum, F32[] sum, Predicate endsGroup)
    {
        Leave(place, outputs, maximum, sum);
        _k.Barrier();
        _group.Take(OfWarps(new Shared((I32)place.Register - (_warp * _ofWarp))), _isGroupEmpty, _factor);
        _isGroupEmpty.Set(endsGroup);
        _k.If(endsGroup, () =>
        {
            _whole.Take(_group.Load(), _isWholeEmpty, _factor);
            _isWholeEmpty.Set(false);
        });
        _k.Barrier();
    }

    /// <summary>What all groups have given.</summary>
    public LaneSums Whole() => _whole.Load();

    /// <summary>Each warp leaves its sums: a lane's four of eight columns side by side.</summary>
    private void Leave(Shared place, F32[] outputs, F32[] maximum, F32[] sum)
    {
        for (int r = 0; r < 2; r++)
        {
            F32 whole = _k.Sum(sum[r], 1, 4);
            I32 row = I32.MultiplyAdd(_warp, DecodeTile.Rows, (_lane >>> 2) + (8 * r));
            _k.If((_lane & 3).Is(0), () => _k.StoreVector(_k.SharedMemory + StatisticsOffset + (row << 3), maximum[r], whole));
        }

        if (_alternates)
        {
            LeaveAlternating(place, outputs);
            return;
        }

        Shared mine = place + (_lane << 4);
        for (int block = 0; block < _valueDim / 8; block++) _k.StoreVector(mine + PlaceOf(block), outputs[(4 * block)..(4 * (block + 1))]);
    }

    /// <summary>The same of sums whose blocks are even and odd columns of 16 (<see cref="EightBitSums"/>): a lane has four neighbours, which are those of two lanes of the others.</summary>
    private void LeaveAlternating(Shared place, F32[] outputs)
    {
        I32 quad = _lane & 3;
        Shared mine = place + (((quad >>> 1) << 9) + (((_lane & -4) + ((quad & 1) << 1)) << 4));
        for (int block = 0; block < _valueDim / 8; block += 2)
        {
            F32[] even = outputs[(4 * block)..(4 * (block + 1))], odd = outputs[(4 * (block + 1))..(4 * (block + 2))];
            Shared at = mine + PlaceOf(block);
            for (int i = 0; i < 2; i++) _k.StoreVector(at + (16 * i), even[i], odd[i], even[i + 2], odd[i + 2]);
        }
    }

    /// <summary>Where a block of columns lies in what a warp leaves; the next one is 512 bytes behind one of an even number.</summary>
    private int PlaceOf(int block) => PlaceOfRound(block / _tile.Warps) + (block % _tile.Warps * 512);

    /// <summary>The same of as many blocks as there are warps.</summary>
    private int PlaceOfRound(int round)
    {
        int bytes = _tile.Warps * 512, rounds = _tile.HasBoxes ? _ofWarp / bytes : 1;
        return _tile.HasBoxes ? (round / rounds * (_tile.TileKeys * BoxedRows.RowBytes)) + (round % rounds * bytes) : round * bytes;
    }

    /// <summary>The split, from the sums of the warps in their order: what this lane looks after.</summary>
    private LaneSums OfWarps(Shared places)
    {
        LaneSums split = LaneSums.In(_k, "split", _tile.ColumnBlocks(_valueDim));
        var weights = new F32[_tile.Warps, 2];
        for (int r = 0; r < 2; r++)
        {
            Shared statistics = _k.SharedMemory + StatisticsOffset + (8 * r * 8) + (_lane >>> 2 << 3);
            F32[][] ofWarp = [.. Enumerable.Range(0, _tile.Warps).Select(w => _k.LoadVector<F32>(statistics + (w * DecodeTile.Rows * 8), 2))];
            split.Maximum[r].Set(ofWarp.Select(static s => s[0]).Aggregate(F32.Max));
            F32 @base = ScoreWriter.BaseOf(split.Maximum[r]);
            for (int w = 0; w < _tile.Warps; w++)
            {
                weights[w, r] = ScoreWriter.WeightOf(ofWarp[w][0], @base, _factor);
                AddOrSet(split.Sum[r], ofWarp[w][1], weights[w, r], isFirst: w == 0);
            }
        }

        Shared mine = places + I32.MultiplyAdd(_warp, 512, _lane << 4);
        for (int j = 0; j < _tile.ColumnBlocks(_valueDim); j++)
        {
            F32[] outputs = split.Outputs[(4 * j)..(4 * (j + 1))];
            Shared at = mine + PlaceOfRound(j);
            void Add()
            {
                for (int w = 0; w < _tile.Warps; w++)
                {
                    F32[] four = _k.LoadVector<F32>(at + (w * _ofWarp), 4);
                    for (int i = 0; i < 4; i++) AddOrSet(outputs[i], four[i], weights[w, i >> 1], isFirst: w == 0);
                }
            }

            if ((j + 1) * _tile.Warps <= _valueDim / 8)
            {
                Add();
                continue;
            }

            foreach (F32 output in outputs) output.Set(0);
            _k.If(_warp < (_valueDim / 8) - (j * _tile.Warps), Add);
        }

        return split;
    }

    private static void AddOrSet(F32 sum, F32 value, F32 weight, bool isFirst)
    {
        if (isFirst) sum.Set(value * weight);
        else sum.AddProduct(value, weight);
    }
}
