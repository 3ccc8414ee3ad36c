using FusedAttention.Cuda.Ptx;
using FusedAttention.Devices;

namespace FusedAttention.Cuda.Kernels;

/// <summary>
/// Attention of a block of rows over tiles of keys by matrix products (<c>mma.sync</c>), on any device since compute capability 8.0. Rows are queries times the query heads of a key/value head, so a tile
/// of K and V serves the whole group.
/// </summary>
/// <remarks>
/// A warp has 16 or 32 rows of the block and all keys of the tile, or a pair of warps has (<see cref="WarpPair"/>): scores, weights and outputs stay in its registers, since sums of one product are the left factor of the next without moving. The next
/// tile is copied while one is worked on. Warps none of whose rows sees a tile skip it.
/// </remarks>
internal sealed partial class PrefillKernel
{
    /// <summary>Registers of a thread that queries may take to stay there, instead of being read from shared memory for each tile.</summary>
    private const int MostQueryRegisters = 32;

    private readonly PtxKernel _k;
    private readonly PrefillTile _tile;
    private readonly CallReader _call;
    private readonly WorkPlace _place;
    private readonly I32 _thread;
    private readonly I32 _lane;
    private readonly I32 _warp;

    /// <summary>Which of the block's sets of rows the warp has.</summary>
    private readonly I32 _rowSet;

    /// <summary>Null where a warp has its rows alone.</summary>
    private readonly WarpPair? _pair;
    private readonly F32 _factor;
    private readonly KeyTileCopies _copies;
    private readonly KeySource _keys;
    private readonly Shared _queries;
    private readonly Shared _stages;
    private readonly SpecialValues _specials;
    private readonly MaskTiles? _masks;

    /// <summary>Keys and values of 8 bits; null where they are of 16.</summary>
    private readonly CodeTiles? _codes;
    private readonly Shared _wide;
    private readonly SharedRows _keyLayout;
    private readonly SharedRows _valueLayout;

    /// <summary>Null without a mask function, and beside a mask, which says itself which tiles are read.</summary>
    private readonly FunctionTiles? _functions;
    private readonly F32[][] _outputs;
    private readonly F32[] _maximum;

    /// <summary>Sums of the weights as they are rounded: what weighted values are divided by, so that the rounding of a weight that outweighs all others cancels.</summary>
    private readonly F32[] _sum;

    /// <summary>The lane's sums of the weights themselves, for the log-sum-exp; null where nobody wants it.</summary>
    private readonly F32[]? _exactSum;
    private readonly Shared _rowNumbers;

    /// <summary>Whether all of the warp's rows have a maximum, and one that whole tiles may go by.</summary>
    private readonly Predicate _isWarm;
    private RowReader[] _row = [];
    private Pair[][][]? _heldQueries;

    private PrefillKernel(in KernelTraits traits, in PrefillTile tile, bool hasLongParameters)
    {
        _k = new("prefill", PtxTarget.Sm80, tile.Threads, tile.Blocks, CallBlock.BytesOf(hasLongParameters));
        _tile = tile;
        _call = new(_k, traits);
        _place = new(_k, _call);
        _thread = _k.ThreadIndex().As("thread");
        _lane = (_thread & 31).As("lane");
        _warp = _k.ShuffleFrom(_thread >>> 5, 0).As("warp");
        _rowSet = tile.HasPairs ? (_warp >>> 1).As("row_set") : _warp;
        _factor = RowWeights.Factor(_call).As("factor");
        _copies = new(_k, _call, tile.Keys, tile.Threads, _thread);
        _keys = KeySource.Of(_call, _place);
        _queries = _k.SharedMemory + tile.HeadBytes;
        _wide = _queries + tile.QueryBytes(traits.KeyDim, traits.ValueDim);
        _stages = _wide + tile.WideBytes(traits.KeyDim, traits.ValueDim);
        _rowNumbers = _wide + tile.StagesBytes(traits.KeyDim, traits.ValueDim);
        (_keyLayout, _valueLayout) = (new(traits.KeyDim), new(traits.ValueDim));
        if (tile.HasPairs) _pair = new(_k, tile, _rowNumbers + tile.RowNumberBytes, _warp, _lane);
        if (_call.KeyValueFormat.Bytes() == 1) _codes = new(_k, _call, _place, _keys, _copies, tile, _thread);
        _specials = new(_k, _call, _k.SharedMemory, _thread, _call.QueryFormat);
        if (traits.Has(CallFeatures.Mask)) _masks = new(_k, _place, tile, _rowNumbers + tile.RowNumberBytes, _thread);
        else if (traits.Has(CallFeatures.MaskFunction)) _functions = new(_k, _call, tile);
        _outputs = [.. Enumerable.Range(0, Fragments).Select(m => _k.Registers<F32>($"o{m}_", ColumnsOfWarp / 2))];
        _maximum = _k.Registers<F32>("m", 2 * Fragments);
        _sum = _k.Registers<F32>("l", 2 * Fragments);
        if (traits.Has(CallFeatures.LogSumExp)) _exactSum = _k.Registers<F32>("exact_l", 2 * Fragments);
        _isWarm = _k.Variable("is_warm", value: false);
    }

    /// <param name="traits">What it is specialised for: 16-bit elements of one type, dimensions that are multiples of 8.</param>
    /// <param name="tile">Its sizes.</param>
    /// <param name="hasLongParameters">Whether the parameter has <see cref="CallBlock.LongParameterBytes"/>.</param>
    public static PtxKernel Write(in KernelTraits traits, in PrefillTile tile, bool hasLongParameters = false)
    {
        var kernel = new PrefillKernel(traits, tile, hasLongParameters);
        kernel.Write();
        return kernel._k;
    }

    /// <summary>16-row fragments of a warp.</summary>
    private int Fragments => _tile.RowsOfWarp / 16;

    /// <summary>Columns of values whose sums the warp has.</summary>
    private int ColumnsOfWarp => _call.Traits.ValueDim / _tile.WarpsOfRows;

    private int StageBytes => _tile.StageBytes(_call.Traits.KeyDim, _call.Traits.ValueDim);

    private void Write()
    {
        LoadQueries();
        FindRanges();
        Predicate isCareful = _k.Variable("is_careful", value: false);
        _k.Repeat("pass", () =>
        {
            AddAllKeys(isCareful);
            Predicate again = _k.BarrierAny(!SpecialValues.AreNone([.. _outputs.SelectMany(static o => o)]) & !isCareful);
            isCareful.Set(isCareful | again);
            _k.If(again, () =>
            {
                _specials.Reset();
                _k.Barrier();
            });
            return again;
        });
        StoreRows(isCareful);
        _k.Exit();
    }

    /// <summary>Whether a row of the warp sees a key of the tile, and whether weights are tried by the maximum that all rows have, as all of them see all of it.</summary>
    private (Predicate IsSeen, Predicate IsWhole) Reach(I32 key)
    {
        I32[] ranges = _k.LoadVector<I32>(PlaceOfRanges, 4);
        Predicate isSeen = (key < ranges[1]) & (key + _tile.Keys > ranges[0]);
        Predicate? isKept = _masks?.WarpSees() ?? _functions?.WarpSees();
        return ((isKept is null ? isSeen : isSeen & isKept).InRegister(), (_isWarm & (key >= ranges[2]) & (key + _tile.Keys <= ranges[3])).InRegister());
    }

    /// <summary>
    /// Whether the copies of the next tile are issued between the products of a tile's scores, where they all have their turn: all at once they fill the queue of the unit that copies, and 12 of 100 samples of a D = 256 kernel stood there, 10 at 128.
    /// Pages look up their blocks first; masks, functions' numbers and 8 bits have more to do with a tile; and what ALiBi needs, and beside the 192 sums of D = 128 what soft caps and functions do, would spill (ALiBi at D = 64: 1,881 us and 1,951).
    /// </summary>
    private bool SpreadsCopies => _masks is null && _functions is null && _codes is null && !_tile.Numbers.Exist && _call.Traits.BlockSize == 0 && (_pair is not null || !_call.Traits.Has(CallFeatures.Alibi))
        && (_outputs[0].Length + (_tile.KeysOfWarp / 2) < 96 || !_call.Traits.Has(CallFeatures.SoftCap | CallFeatures.ScoreFunction));

    private void AddAllKeys(Predicate isCareful)
    {
        foreach (F32 output in _outputs.SelectMany(static o => o)) output.Set(0);
        foreach (F32 maximum in _maximum) maximum.Set(float.NegativeInfinity);
        foreach (F32 sum in (F32[])[.. _sum, .. _exactSum ?? []]) sum.Set(0);

        _isWarm.Set(false);

        // From the last tile to the first: under a causal mask with ALiBi scores fall on the way, and the first maximum stays. The first turn of the loop only copies, so that the copies' text is there once.
        I32 first = (_place.Item.FirstKey & -_tile.Keys).As("first_tile"), last = ((_place.Item.EndKey - 1) & -_tile.Keys).As("last_tile");
        I32 key = _k.Variable("key", last + _tile.Keys);
        I32? after = _masks is null && _functions is null ? null : _k.Variable("next_key", last);
        Shared filling = new(_k.Variable("filling_stage", _stages.ToI32()));
        Predicate hasTile = _k.Variable("has_tile", value: false);
        _masks?.Copy(last);
        _k.CommitCopies();
        _k.While("tile", () => key >= first, () =>
        {
            // The tile has arrived, and everybody is done with the one before, whose place is filled next. Ahead of the first one nothing needs to have arrived but its mask: the queries may come with it.
            if (_masks is null) _k.If(hasTile, () => _k.WaitForCopies(0));
            else _k.WaitForCopies(0);
            if (_masks is not null) PassHiddenTiles(after!, first);
            else if (_functions is not null) PassTilesThatNobodyKeeps(after!, first);
            else _k.Barrier();
            I32 next = after ?? key - _tile.Keys;
            (Predicate IsSeen, Predicate IsWhole)? early = SpreadsCopies ? Reach(key) : null;
            Predicate hasNext = next >= first;
            _k.If(early is null ? hasNext : hasNext & !early.Value.IsWhole, () =>
            {
                CopyTile(filling, next);
                LeaveTileNumbers(filling, next);
                if (_masks is not null) _k.If(next > first, () => _masks.Copy(next - _tile.Keys));
            });
            _k.CommitCopies();
            ((I32)filling.Register).Set(OtherStage(filling).ToI32());
            if (HoldsQueries) _k.If(!hasTile, HoldQueries);
            _k.If(hasTile, () =>
            {
                Shared tile = Widened(filling);
                Clean(tile, key, isCareful);
                // Under a causal mask half of the warps see nothing of the last tiles.
                (Predicate isSeen, Predicate isWhole) = early ?? Reach(key);
                Func<Action[]>? copies = SpreadsCopies ? () => _copies.Passes(OtherStage(filling), ValuesOf(OtherStage(filling)), next, _keys, hasNext) : null;
                _k.If(isSeen, () => AddTile(tile, filling, key, isWhole, copies));
            });
            hasTile.Set(value: true);
            _masks?.Advance();
            _functions?.Advance();
            key.Set(next);
            after?.Add(-_tile.Keys);
        });

        // Of an item without keys nobody has waited for the queries, whose place results take.
        _k.WaitForCopies(0);
    }

    /// <summary>Waits for all threads, and goes to the next tile of which a row of the block sees a key by its mask; in front of the first tile if there is none.</summary>
    private void PassHiddenTiles(I32 next, I32 first)
    {
        _k.Repeat("hidden_tile", () =>
        {
            Predicate isHidden = (!_k.BarrierAny(_masks!.HasKeys()) & (next >= first)).InRegister();
            _k.If(isHidden, () =>
            {
                next.Add(-_tile.Keys);
                _k.If(next >= first, () => _masks.Copy(next));
                _k.CommitCopies();
                _k.WaitForCopies(0);
            });
            return isHidden;
        });
        _masks!.Pack();
    }

    private void CopyTile(Shared stage, I32 key)
    {
        if (_codes is not null)
        {
            _codes.Copy(stage, key);
            return;
        }

        _copies.CopyKeys(stage, key, _keys);
        _copies.CopyValues(ValuesOf(stage), key, _keys);
    }

    /// <summary>Computes what the next tile has of the score function, all threads of the block together, which wait for each other before it is read.</summary>
    private void LeaveTileNumbers(Shared stage, I32 key)
    {
        if (_tile.Numbers.Exist) new TileNumberWriter(_k, _call, _tile.Numbers, _place, _tile.Rows, _tile.Keys, _thread, _tile.Threads).Leave(key, NumbersOf(stage));
    }

    private Shared NumbersOf(Shared stage) => stage + _tile.NumbersOffset(_call.Traits.KeyDim, _call.Traits.ValueDim);

    /// <summary>The tile as products read it.</summary>
    private Shared Widened(Shared stage)
    {
        if (_codes is null) return stage;
        _codes.Widen(stage, _wide, ValuesOf(_wide));
        _k.Barrier();
        return _wide;
    }

    /// <summary>Waits for all threads, and goes to the next tile of which the mask function keeps a key for a row of the block; in front of the first tile if there is none.</summary>
    private void PassTilesThatNobodyKeeps(I32 next, I32 first)
    {
        _k.Barrier();
        _functions!.Find(_functions.RowOf(_place), _lane, next, first);
        _functions.Look(_row, FirstKeyOfLane(next));
    }

    private Shared ValuesOf(Shared tile) => tile + _keyLayout.BytesOf(_tile.Keys);

    /// <summary>One stage is worked on while the other is filled, and each turn of the loop they change places: so one of them is enough to know.</summary>
    private Shared OtherStage(Shared stage) => new((_stages.ToI32() << 1) + StageBytes - stage.ToI32());

    private bool HoldsQueries => Fragments * _keyLayout.Columns / 4 <= MostQueryRegisters;

    /// <summary>While the first tile is on its way.</summary>
    private void HoldQueries()
    {
        _k.WaitForCopies(1);
        _k.Barrier();
        _heldQueries = [.. Enumerable.Range(0, _keyLayout.Columns / 16).Select(LoadQueryFactors)];
    }

    /// <summary>Left factors of 16 columns of the warp's rows.</summary>
    private Pair[][] LoadQueryFactors(int slice)
    {
        SharedRows layout = _keyLayout;
        Shared mine = _queries + I32.MultiplyAdd(_rowSet, layout.BytesOf(_tile.RowsOfWarp), layout.LaneOffsetOfRows(_lane));
        return [.. Enumerable.Range(0, Fragments).Select(m => _k.LoadMatrices(mine + ((m * layout.BytesOf(16)) + (slice * 32))))];
    }

    /// <summary>In the second pass: zeros in place of infinite values and NaN.</summary>
    private void Clean(Shared tile, I32 key, Predicate isCareful) => _k.If(isCareful, () =>
    {
        _specials.Clean(ValuesOf(tile), _valueLayout, _tile.Keys, key, _tile.Threads, _thread);
        _k.Barrier();
    });
}
