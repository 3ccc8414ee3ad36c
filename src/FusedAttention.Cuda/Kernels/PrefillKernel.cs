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
internal sealed class PrefillKernel
{
    /// <summary>Registers of a thread that queries may take to stay there, instead of being read from shared memory for each tile.</summary>
    private const int MostQueryRegisters = 32;

    /// <summary>How large the sum of a lane's weights of a tile may become: binary16 ends at 65,504.</summary>
    private const float MostWeight = 4096;

    /// <summary>Rows that a thread looks up at a time, at the two ends of an item: their latencies, a division and loads, overlap.</summary>
    private const int RowsTogether = 4;

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

    /// <summary>Queries go to shared memory; rows beyond the item's repeat its last one.</summary>
    private void LoadQueries()
    {
        var layout = new SharedRows(_call.Traits.KeyDim);
        var copies = new RowCopies(_k, layout, _tile.Rows, _tile.Threads, _thread);
        RowPlaces queries = RowPlaces.Queries(_call, _place.Sequence);
        int passes = _tile.Rows / copies.RowsOfPass, together = Math.Min(passes, RowsTogether);
        I32 shared = _k.Variable("query_row_address", _queries.ToI32());
        _k.For("query_row", _place.Item.FirstRow + copies.FirstRow, _place.Item.FirstRow + copies.FirstRow + _tile.Rows, together * copies.RowsOfPass, index =>
        {
            for (int pass = 0; pass < together; pass++)
            {
                (I32 query, I32 head) = _place.QueryOf(index + (pass * copies.RowsOfPass));
                copies.Copy(new(shared), pass, queries.Of(query, head) + copies.ChunkOffset.Widen(), isInside: null);
            }

            shared.Add(together * copies.RowsOfPass * layout.Stride);
        });
        _k.CommitCopies();
    }

    /// <summary>The lane's rows: g and g + 8 of each fragment.</summary>
    private RowReader[] RowsOfLane(WorkPlace place)
    {
        I32 first = (_rowSet * _tile.RowsOfWarp) + (_lane >>> 2);
        return [.. Enumerable.Range(0, 2 * Fragments).Select(i =>
        {
            I32 index = first + (8 * i);
            RowReader row = place.RowAt(place.Item.FirstRow + index);
            if (_tile.RowNumbers > 0) row.Numbers = _rowNumbers + (index * (_tile.RowNumbers * sizeof(float)));
            return row;
        })];
    }

    /// <summary>Computes what the score function has of each row alone, and leaves it: four lanes have the same rows.</summary>
    private void LeaveRowNumbers()
    {
        if (_tile.RowNumbers == 0) return;
        _k.If((_lane & 3).Is(0), () =>
        {
            foreach (RowReader row in _row) new RowFunction(FunctionBlock.OfScore(_k, _call.Traits), row, 0).LeaveNumbers(row.Numbers!);
        });
    }

    /// <summary>What the lane's rows see, and the warp's together.</summary>
    private void FindRanges()
    {
        _row = RowsOfLane(_place);
        LeaveRowNumbers();
        I32 OverLanes(Func<I32, I32, I32> choose, Func<RowReader, I32> of)
        {
            I32 value = _row.Select(of).Aggregate(choose);
            for (int bit = 4; bit < 32; bit *= 2) value = choose(value, _k.ShuffleXor(value, bit));
            return value;
        }

        I32 warpStart = OverLanes(I32.Min, static row => row.Start), warpEnd = OverLanes(I32.Max, static row => row.End), wholeStart = OverLanes(I32.Max, static row => row.Start);
        // With ALiBi only tiles that no row stands in front of are whole: distances fall by one a key there.
        I32 wholeEnd = OverLanes(I32.Min, row => row.Slope is null ? row.End : I32.Min(row.End, I64.Min(I64.Max(row.Position + 1, 0), int.MaxValue).ToI32()));
        _k.If(_lane.Is(0), () => _k.StoreVector(PlaceOfRanges, warpStart, warpEnd, wholeStart, wholeEnd));
        _k.WarpBarrier();
    }

    /// <summary>The warp's ranges, which are looked at some times a tile: in registers they were four too many at D = 128.</summary>
    private Shared PlaceOfRanges => _k.SharedMemory + PrefillTile.RangesOffset + (_warp << 4);

    /// <summary>The keys that all rows of the warp see.</summary>
    private (I32 Start, I32 End) WholeRange()
    {
        I32[] range = _k.LoadVector<I32>(PlaceOfRanges + (2 * sizeof(int)), 2);
        return (range[0], range[1]);
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

    /// <summary>
    /// One tile. Weights are relative to the maximum of the tiles before as long as none of a lane's sums of them passes 2^12, which a 16-bit weight can still hold: no maximum is looked for, nothing is
    /// rescaled, and the exponentials run beside the products. Where a row's do, that row gets a new maximum: a matter of the row alone, so its neighbours cannot show in its bits.
    /// </summary>
    /// <param name="tile">As products read it.</param>
    /// <param name="stage">As it came.</param>
    /// <param name="key">Its first key.</param>
    /// <param name="isWhole">Whether weights are tried by the maximum that rows have.</param>
    /// <param name="copies">What is issued between its products if so.</param>
    private void AddTile(Shared tile, Shared stage, I32 key, Predicate isWhole, Func<Action[]>? copies)
    {
        F32[][] scores = [.. Enumerable.Range(0, Fragments).Select(m => _k.Registers<F32>($"s{m}_", _tile.KeysOfWarp / 2))];
        Pair[][][]? own = _pair is null ? null : [.. scores.Select((s, m) => (Pair[][])[.. Enumerable.Range(0, s.Length / 8).Select(slice => _k.Registers<Pair>($"w{m}_{slice}_", 4))])];
        Predicate isDone = _k.Variable("is_done", value: false);
        _k.If(isWhole, () =>
        {
            AddProducts(scores, tile, stage, copies?.Invoke());
            if (copies is not null) _k.CommitCopies();
            F32[] sums = _tile.Numbers.Exist ? [.. PrepareTogether(scores, stage, key, isLeft: true).Select((row, r) => Weigh(scores, r, row.Weights()))] : [.. _row.Select((row, r) =>
            {
                RowWeights weights = WeightsOf(row, key, _maximum[r], isLeft: true, SeesOf(r));
                weights.Prepare(RowOf(scores, r), isWhole: true);
                return Weigh(scores, r, weights.Weights());
            })];
            LeaveWeights(own, scores);
            Predicate isTooLarge = sums.Select(static sum => !(sum <= MostWeight)).Aggregate(static (a, b) => a | b);
            isDone.Set(!(_pair?.BarrierAny(isTooLarge) ?? _k.Any(isTooLarge)));
            if (_exactSum is { } exact)
            {
                _k.If(isDone, () =>
                {
                    for (int r = 0; r < sums.Length; r++) exact[r].Add(sums[r]);
                });
            }
        });
        _k.If(!isDone, () =>
        {
            AddProducts(scores, tile, stage);
            if (_tile.Numbers.Exist) PrepareTogether(scores, stage, key, isLeft: false);
            else for (int r = 0; r < _row.Length; r++) WeightsOf(_row[r], key, _maximum[r], isLeft: false, SeesOf(r)).Prepare(RowOf(scores, r), isWhole: false);
            Hide(scores, key);
            Renew(scores, key);
            LeaveWeights(own, scores);
            _pair?.Barrier();
        });
        AddWeightedValues(own ?? [.. scores.Select(s => MatrixSums.LeftFactors(_call.QueryFormat, s))], ValuesOf(tile));
    }

    /// <summary>Of a pair, has the warp's weights ready, for itself and for the other warp.</summary>
    private void LeaveWeights(Pair[][][]? own, F32[][] scores)
    {
        if (own is null) return;
        for (int m = 0; m < own.Length; m++) MatrixSums.RoundInto(own[m], _call.QueryFormat, scores[m]);
        _pair!.LeaveWeights(own);
    }

    /// <summary>O += P V, and the sums of the weights. Of a pair, first what the warp's own weights add.</summary>
    private void AddWeightedValues(Pair[][][] weights, Shared values)
    {
        Pair[][][] all = weights;
        if (_pair is null)
        {
            MatrixSums.AddWeightedValues(_k, _call.QueryFormat, _outputs, weights, values, _valueLayout, _lane);
        }
        else
        {
            int bytes = _valueLayout.BytesOf(_tile.KeysOfWarp);
            Shared columns = values + (_pair.Half * (ColumnsOfWarp * 2));
            MatrixSums.AddWeightedValues(_k, _call.QueryFormat, _outputs, weights, columns + (_pair.Half * bytes), _valueLayout, _lane, ColumnsOfWarp);
            Pair[][][] others = _pair.TakeWeights();
            MatrixSums.AddWeightedValues(_k, _call.QueryFormat, _outputs, others, columns + (bytes - (_pair.Half * bytes)), _valueLayout, _lane, ColumnsOfWarp);
            all = [.. weights.Select((own, m) => (Pair[][])[.. own, .. others[m]])];
        }

        for (int m = 0; m < Fragments; m++)
        {
            (F32 row, F32 eightBelow) = MatrixSums.RowSums(_k, _call.QueryFormat, all[m]);
            _sum[2 * m].Add(row);
            _sum[(2 * m) + 1].Add(eightBelow);
        }
    }

    /// <summary>
    /// The two rows of a fragment together, which share what they read of the tile's numbers. Behind a barrier: without one the assembler reads them ahead of the products, and computes what of a function does not ask for the score for all
    /// columns, for which there are no registers (distances in a grid at D = 64: 396 bytes spilled, and none).
    /// </summary>
    private RowWeights[] PrepareTogether(F32[][] scores, Shared stage, I32 key, bool isLeft) => [.. Enumerable.Range(0, Fragments).SelectMany(m =>
    {
        _k.WarpBarrier();
        I32 firstRow = (_warp * _tile.RowsOfWarp) + (16 * m) + (_lane >>> 2);
        var numbers = new TileNumberLoads(_k, _call, _tile.Numbers, _tile.Rows, _tile.Keys, NumbersOf(stage), firstRow, 2, _lane);
        RowWeights[] rows = [.. Enumerable.Range(0, 2).Select(r => WeightsOf(_row[(2 * m) + r], key, _maximum[(2 * m) + r], isLeft, SeesOf((2 * m) + r), numbers.OfRow(r)))];
        RowWeights.PrepareTogether(rows, [RowOf(scores, 2 * m), RowOf(scores, (2 * m) + 1)]);
        return rows;
    })];

    /// <summary>What is known ahead of the keys that a row of the lane may see.</summary>
    private Func<int, Predicate>? SeesOf(int row) => _masks?.Sees(row) ?? _functions?.Sees(row);

    /// <summary>S = Q K^T, with the scales of keys.</summary>
    private void AddProducts(F32[][] scores, Shared keys, Shared stage, Action[]? between = null)
    {
        foreach (F32 score in scores.SelectMany(static s => s)) score.Set(0);
        Shared own = _pair is null ? keys : keys + (_pair.Half * _keyLayout.BytesOf(_tile.KeysOfWarp));
        MatrixSums.AddProducts(_k, _call.QueryFormat, scores, slice => _heldQueries?[slice] ?? LoadQueryFactors(slice), own, _keyLayout, _tile.KeysOfWarp, _lane, between);
        if (_codes is not { HasKeyScales: true }) return;
        for (int column = 0; column < _tile.Keys; column += 8)
        {
            F32[] scales = _codes.KeyScales(stage, ((_lane & 3) << 1) + column);
            foreach (F32[] sums in scores)
                for (int i = 0; i < 4; i++) sums[(column / 2) + i].Multiply(scales[i & 1]);
        }
    }

    private RowWeights WeightsOf(RowReader row, I32 key, F32 maximum, bool isLeft, Func<int, Predicate>? sees = null, Func<int, int, F32?>? ofTile = null) =>
        new(_k, _call, row, FirstKeyOfLane(key), _factor, maximum, isLeft ? null : key + (_tile.Keys - 1), sees, ofTile: ofTile);

    /// <summary>Negative infinity in place of scores whose keys are out of a row's reach.</summary>
    private void Hide(F32[][] scores, I32 key)
    {
        (I32 start, I32 end) = WholeRange();
        _k.If((key < start) | (key + _tile.Keys > end), () =>
        {
            // Asked for again where it is rare: registers for it would be missing in every tile.
            RowReader[] row = RowsOfLane(new(_k, _call));
            I32 firstKey = FirstKeyOfLane(key);
            for (int r = 0; r < row.Length; r++) ScoreWriter.Hide(row[r], RowOf(scores, r), firstKey);
        });
    }

    private I32 FirstKeyOfLane(I32 key) => _pair is null ? key + ((_lane & 3) << 1) : key + I32.MultiplyAdd(_pair.Half, _tile.KeysOfWarp, (_lane & 3) << 1);

    /// <summary>The lane's scores of its row number <paramref name="r"/>: fragment r / 2, row g or g + 8.</summary>
    private static (F32 Score, int Column)[] RowOf(F32[][] scores, int r) =>
        [.. Enumerable.Range(0, scores[0].Length / 2).Select(i => (scores[r / 2][(i / 2 * 4) + (2 * (r & 1)) + (i & 1)], (i / 2 * 8) + (i & 1)))];

    /// <summary>Puts weights in the place of a row's scores, and returns the lane's sum of them.</summary>
    private static F32 Weigh(F32[][] scores, int r, Func<F32, int, F32> weightOf)
    {
        foreach ((F32 score, int column) in RowOf(scores, r)) score.Set(weightOf(score, column));
        return Sum([.. RowOf(scores, r).Select(static element => element.Score)]);
    }

    /// <summary>Two sums side by side, always in this order: what is decided by a sum is decided alike wherever it is formed.</summary>
    private static F32 Sum(F32[] weights)
    {
        F32[] halves = [weights[0], weights[1]];
        for (int i = 2; i < weights.Length; i++) halves[i & 1] += weights[i];
        return halves[0] + halves[1];
    }

    /// <summary>A tile whose rows do not all go by the maximum that they have: those that do not get a new one, and m, l and O are brought up to date.</summary>
    private void Renew(F32[][] scores, I32 key)
    {
        for (int r = 0; r < _row.Length; r++)
        {
            RowWeights weights = WeightsOf(_row[r], key, _maximum[r], isLeft: false);
            (F32 Score, int Column)[] own = RowOf(scores, r);
            Func<F32, int, F32> stale = weights.Weights();
            F32 sum = Sum([.. own.Select(element => stale(element.Score, element.Column))]);
            I32 isTooLarge = I32.Select((!(sum <= MostWeight)).InRegister() | _maximum[r].Is(float.NegativeInfinity), 1, 0);
            for (int bit = 1; bit < 4; bit *= 2) isTooLarge |= _k.ShuffleXor(isTooLarge, bit);
            F32 largestOfRow = _k.Max(own.Select(static element => element.Score).Aggregate(F32.Max), 1, 4);
            if (_pair is not null)
            {
                (F32 largestOfOther, I32 isTooLargeToo) = _pair.Exchange(r, largestOfRow, isTooLarge);
                (largestOfRow, isTooLarge) = (F32.Max(largestOfRow, largestOfOther), isTooLarge | isTooLargeToo);
            }

            F32 largest = RowWeights.Largest(_call, _maximum[r], largestOfRow);
            Predicate isNew = isTooLarge.IsNot(0);
            F32 maximum = F32.Select(isNew, largest, _maximum[r]);
            F32 rescale = F32.Select(isNew, RowWeights.Rescale(_call, _maximum[r], maximum, _factor), 1);
            _maximum[r].Set(maximum);
            _sum[r].Multiply(rescale);
            F32 exact = Weigh(scores, r, weights.WeightsBy(maximum, isNew, largestOfRow));
            _exactSum?[r].Set(F32.MultiplyAdd(_exactSum[r], rescale, exact));
            F32[] outputs = _outputs[r / 2];
            for (int i = 0; i < outputs.Length; i++)
                if ((i >> 1 & 1) == (r & 1)) outputs[i].Multiply(rescale);
        }

        _isWarm.Set(!_k.Any(_maximum.Select(m => !RowWeights.MayGoBy(_call, m, _factor)).Aggregate(static (a, b) => a | b)));
    }

    /// <summary>The sum of a row's weights before they were rounded, in all of its lanes.</summary>
    private F32 ExactSumOf(int r)
    {
        F32 sum = _k.Sum(_exactSum![r], 1, 4);
        return _pair is null ? sum : sum + _pair.Exchange(r, sum, 0).Number;
    }

    /// <summary>Rounded outputs go through the place of the warp's queries, from where whole rows are stored.</summary>
    private void StoreRows(Predicate isCareful)
    {
        var layout = new SharedRows(_call.Traits.ValueDim);
        I32 g = _lane >>> 2, q = _lane & 3;
        Shared ofRows = new((_queries + (_rowSet * (_tile.QueryBytes(_call.Traits.KeyDim, _call.Traits.ValueDim) / _tile.Warps * _tile.WarpsOfRows))).ToI32());
        I32? firstColumnBytes = _pair is null ? null : _pair.Half * (ColumnsOfWarp * 2);
        Shared ofWarp = firstColumnBytes is null ? ofRows : ofRows + firstColumnBytes;
        F32 unit = RowWeights.Unit(_call);
        var place = new WorkPlace(_k, _call);
        RowReader[] rowOf = RowsOfLane(place);
        for (int r = 0; r < rowOf.Length; r++)
        {
            RowEnd end = RowEnd.Of(_call, rowOf[r], _maximum[r], _sum[r], unit, _exactSum is null ? null : ExactSumOf(r));
            Shared to = ofWarp + I32.MultiplyAdd(g, layout.Stride, q << 2) + (r * 8 * layout.Stride);
            F32[] outputs = _outputs[r / 2];
            for (int column = 0; column < ColumnsOfWarp; column += 8)
            {
                int at = (column / 2) + (2 * (r & 1));
                _k.Store(to + (column * 2), Pair.Of(_call.QueryFormat, outputs[at] * end.Factor, outputs[at + 1] * end.Factor));
            }

            if (_call.Traits.Has(CallFeatures.LogSumExp))
            {
                I32 index = place.Item.FirstRow + (_rowSet * _tile.RowsOfWarp) + g + (8 * r);
                Predicate isMine = q.Is(0) & (index < place.Item.EndRow);
                _k.If(_pair is null ? isMine : isMine & _pair.Half.Is(0), () => rowOf[r].StoreLogSumExp(end.LogSumExp));
            }
        }

        _k.WarpBarrier();
        int chunks = ColumnsOfWarp / SharedRows.Chunk;
        I32 firstRow = place.Item.FirstRow + (_rowSet * _tile.RowsOfWarp);
        I32 rows = I32.Min(_tile.RowsOfWarp, place.Item.EndRow - firstRow);
        RowPlaces results = RowPlaces.Outputs(_call, place.Sequence);
        _k.For("chunk", _lane, rows * chunks, RowsTogether * 32, first =>
        {
            for (int i = 0; i < RowsTogether; i++)
            {
                // Chunks beyond the last one repeat it.
                I32 index = I32.Min(first + (32 * i), (rows * chunks) - 1);
                I32 row = I32.Quotient(index, chunks), offset = (index - (row * chunks)) << 4;
                I32[] elements = _k.LoadVector<I32>(ofWarp + I32.MultiplyAdd(row, layout.Stride, offset), 4);
                (I32 query, I32 head) = place.QueryOf(firstRow + row);
                _k.StoreVector(results.Of(query, head) + (firstColumnBytes is null ? offset : firstColumnBytes + offset).Widen(), elements);
            }
        });
        _k.If(isCareful, () =>
        {
            if (_pair is null) _k.WarpBarrier();
            else _pair.Barrier();
            KeyRows values = KeyRows.Values(_k, _call, place.Sequence, place.Head);
            KeyRows? keys = _call.Traits.Has(CallFeatures.ScoreFunction) ? KeyRows.Keys(_k, _call, place.Sequence, place.Head) : null;
            ScaleRows? scales = ScaleRows.Values(_k, _call, place.Sequence, place.Item.Sequence, place.Head);
            _k.For("careful_row", _pair?.Half ?? 0, rows, _tile.WarpsOfRows, row =>
            {
                RowReader reader = place.RowAt(firstRow + row);
                _specials.AddTo(reader, values, reader.OutputElements, _call.QueryFormat, _lane, keys, scales);
            });
        });
    }
}
