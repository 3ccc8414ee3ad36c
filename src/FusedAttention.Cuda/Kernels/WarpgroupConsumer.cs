using FusedAttention.Cuda.Ptx;
using FusedAttention.Devices;

namespace FusedAttention.Cuda.Kernels;

/// <summary>
/// A warpgroup that computes: 64 rows of each item, over its tiles of keys from the last to the first. Scores of a tile are issued together with the product of the weights and values of the tile before, so
/// that the exponentials of one run beside the other; and warpgroups take turns at issuing, so that the matrix units have work while one of them computes weights.
/// </summary>
internal sealed partial class WarpgroupConsumer
{
    private readonly PtxKernel _k;
    private readonly WarpgroupTile _tile;
    private readonly CallReader _call;
    private readonly WarpgroupMemory _memory;
    private readonly WarpgroupWork _work;
    private readonly I32 _thread;
    private readonly I32 _lane;
    private readonly I32 _warpgroup;

    /// <summary>The lane's first row of the block's; the other one is 8 further on.</summary>
    private readonly I32 _rowOfLane;
    private readonly F32 _factor;
    private readonly StageRing _queue;
    private readonly StageRing _queries;
    private readonly StageRing _keys;
    private readonly StageRing _values;
    private readonly I32 _queryLow;
    private readonly I32 _keyLow;
    private readonly I32 _valueLow;
    private readonly I32 _descriptorHigh;
    private readonly F32[] _scores;
    private readonly Pair[] _weights;
    private readonly F32[] _outputs;
    private readonly F32[] _maximum;

    /// <summary>The maximum that weights of whole tiles go by; NaN where a row has none that they may go by, so that its sums show it.</summary>
    private readonly F32[] _reference;
    private readonly F32[] _sum;

    /// <summary>Null without a mask or a mask function.</summary>
    private readonly WarpgroupTileBits? _masks;

    /// <summary>Null without a bias.</summary>
    private readonly WarpgroupBiases? _biases;

    /// <summary>
    /// Whether all of the warpgroup's rows have a maximum that weights of whole tiles may go by: with a mask, a bias or a function, tiles come of which some of them see nothing. Null without, where a whole tile is below another one.
    /// </summary>
    private readonly Predicate? _isWarm;

    /// <summary>The lane's two; null where all rows see the same keys.</summary>
    private RowReader?[] _row = [null, null];

    /// <summary>Not null: asks for them again where a tile hides some keys, so that their ends need no registers.</summary>
    private Func<RowReader[]>? _rowsAgain;
    private I32 _wholeStart = 0;
    private I32 _wholeEnd = 0;
    private I32 _lastTile = 0;

    /// <summary>Not null: the last product of an item is issued by the text that issues it for tiles that are not speculated on.</summary>
    private SharedProduct? _lastProduct;

    /// <param name="k">The kernel.</param>
    /// <param name="call">The call.</param>
    /// <param name="memory">Where everything lies.</param>
    /// <param name="tile">Its sizes.</param>
    /// <param name="thread">Of the block.</param>
    /// <param name="warpgroup">Its number among those that compute, the same register content in all threads.</param>
    public WarpgroupConsumer(PtxKernel k, CallReader call, WarpgroupMemory memory, WarpgroupTile tile, I32 thread, I32 warpgroup)
    {
        (_k, _call, _memory, _tile, _thread, _warpgroup) = (k, call, memory, tile, thread, warpgroup);
        _work = new(k, call, memory, tile);
        _lane = (thread & 31).As("lane");
        _rowOfLane = ((warpgroup * WarpgroupTile.WarpgroupRows) + (((thread >>> 5) & 3) << 4) + (_lane >>> 2)).As("row_of_lane");
        _factor = RowWeights.Factor(call).As("factor");
        _queue = new(k, "queue", WarpgroupMemory.Slots, parity: 0);
        _queries = new(k, "query", tile.QueryStages, parity: 0);
        _keys = new(k, "key", WarpgroupTile.Stages, parity: 0);
        _values = new(k, "value", WarpgroupTile.Stages, parity: 0);

        // Descriptors are made of what all threads of a warpgroup have alike and the assembler knows to be so: of a shuffle's result, and not of a thread's number, which would cost two to four moves a product.
        _queryLow = BoxedRows.DescriptorLow(memory.Queries + (warpgroup * (WarpgroupTile.WarpgroupRows * BoxedRows.RowBytes)), BoxedRows.AlongColumns).As("query_descriptor");
        _keyLow = BoxedRows.DescriptorLow(memory.Keys, BoxedRows.AlongColumns).As("key_descriptor");
        _valueLow = BoxedRows.DescriptorLow(memory.Values, memory.ValueRows.AlongRows).As("value_descriptor");
        _descriptorHigh = k.Variable("descriptor_high", (I32)BoxedRows.DescriptorHigh);
        _scores = k.Registers<F32>("s", tile.Keys / 2);
        _weights = k.Registers<Pair>("w", tile.Keys / 4);
        _outputs = k.Registers<F32>("o", memory.ValueRows.Columns / 2);
        _maximum = k.Registers<F32>("m", 2);
        _reference = k.Registers<F32>("reference", 2);
        _sum = k.Registers<F32>("l", 2);
        if (tile.Lookups.HasMask) _masks = new WarpgroupMasks(k, memory, tile, _rowOfLane, _lane);
        if (tile.Lookups.HasTileMap) _masks = new WarpgroupFunctionBits(k, call, memory, tile, _lane);
        if (tile.Lookups.HasBias) _biases = new(k, call, memory, tile, _rowOfLane, _lane);
        if (tile.Lookups != default || HasFunctions) _isWarm = k.Variable("is_warm", value: false);
    }

    private ElementFormat Format => _call.KeyValueFormat;

    /// <summary>Works on items until there are none left.</summary>
    public void Write()
    {
        BeginTurns();
        _k.Repeat("item", () =>
        {
            WorkSlot slot = _work.Take(_queue);
            I32 head = _k.ShuffleFrom(slot.Head, 0).As("head");
            Predicate isThere = head >= 0;
            _k.If(isThere, () =>
            {
                Attend(slot, head);
                _k.WarpBarrier();
                Release(_memory.WorkEmpty, _queue);
            });
            return isThere;
        });
    }

    /// <summary>One item.</summary>
    private void Attend(WorkSlot slot, I32 head)
    {
        ItemRanges ranges = slot.Ranges;
        WarpgroupReach reach = slot.ReachOf(_warpgroup).Uniform(_k);
        (_wholeStart, _wholeEnd, _lastTile) = (reach.WholeStart, reach.WholeEnd, reach.LastTile);
        Func<RowReader[]> rows = () => RowsOfLane(slot, slot.Head, slot.Ranges);
        _rowsAgain = AsksRowsAgain || HasFunctions ? rows : null;
        _masks?.Begin(rows);
        LeaveRowNumbers(rows);
        if (!_tile.SeesAll && !AsksMaskAlone && !AsksRowsAgain) _row = RowsOfLane(slot, head, ranges);
        _biases?.Begin(slot.Item);
        foreach (F32 output in _outputs) output.Set(0);

        // Nobody reads them before they are set; but the assembler does not see that, and would keep those of the item before through its end.
        foreach (Pair weight in _weights) weight.Set((I32)0);
        foreach (F32 maximum in _maximum) maximum.Set(float.NegativeInfinity);
        foreach (F32 reference in _reference) reference.Set(float.NaN);
        foreach (F32 sum in _sum) sum.Set(0);
        WaitFor(_memory.QueryFull, _queries);
        var results = new WarpgroupResults(_k, _call, _lane, _rowOfLane);
        if (_masks is null) PassTiles(ranges.LastTile, reach.LastTile);
        AddTiles(reach.FirstTile, () => results.Finish(slot, at => RowsOfLane(at, head, at.Ranges), _maximum, _sum));
        if (_masks is null && !_tile.SeesAll) PassTiles(reach.FirstTile - _tile.Keys, slot.Ranges.FirstTile - _tile.Keys);
        Predicate isSpecial = results.Store(_outputs);
        _k.If(_k.Any(slot.Careful.IsNot(0)), () => results.AddSpecials(slot, head), () =>
            _k.If(IsInWarpgroup(isSpecial), () => _k.If((_thread & (WarpgroupTile.WarpgroupThreads - 1)).Is(0), () => _work.Report(slot))));
    }

    /// <summary>
    /// Gives back tiles of which rows of other warpgroups see keys and this one's do not. Not before they have come: until then others may be at what lay there before. Of 1,024 causal keys in tiles of 128, three warpgroups would else compute
    /// 96 tiles of 64 rows, of which 24 are beyond all of their rows.
    /// </summary>
    /// <param name="from">The first of them, if it is above <paramref name="to"/>.</param>
    /// <param name="to">Where to stop.</param>
    private void PassTiles(I32 from, I32 to)
    {
        I32 key = _k.Variable("passed_key", from);
        _k.While("passed_tile", () => key > to, () =>
        {
            WaitFor(_memory.KeysFull, _keys);
            _biases?.Take(_keys, null);
            TakeTurn();
            HandTurnOver();
            _biases?.Release(_keys, null);
            Release(_memory.KeysEmpty, _keys);
            WaitFor(_memory.ValuesFull, _values);
            Release(_memory.ValuesEmpty, _values);
            key.Add(-_tile.Keys);
        });
    }

    /// <summary>All tiles, or with a mask those that some row of the block sees.</summary>
    /// <param name="first">The first one.</param>
    /// <param name="finish">What is to be done beside the last product, or without one where no row sees a key.</param>
    private void AddTiles(I32 first, Action finish)
    {
        I32 key = _k.Variable("key", _lastTile);
        _isWarm?.Set(value: false);
        _lastProduct = SharesLastProduct ? new(_k.NewPlace("weighted_values"), _k.NewPlace("last_values"), () => key < (_masks is null ? first : 0)) : null;
        if (_masks is null)
        {
            _k.If(key >= first, () =>
            {
                _k.Repeat("tile", () =>
                {
                    AddTile(key);
                    key.Add(-_tile.Keys);
                    return key >= first;
                });
                AddValuesOfLastTile(finish);
            }, FinishWithoutTiles);
            return;
        }

        _lastTile = _k.Variable("last_seen_tile", (I32)(-1));
        _k.Repeat("tile", () =>
        {
            key.Set(_masks.Next(_keys));
            Predicate isThere = key >= 0;
            _k.If(isThere, () =>
            {
                _lastTile.Set(I32.Select(_lastTile < 0, key, _lastTile));
                _masks.Take(_keys, key);
                AddTile(key);
            }, () => Release(_memory.KeysEmpty, _keys));
            return isThere;
        });
        _k.If(_lastTile >= 0, () => AddValuesOfLastTile(finish), FinishWithoutTiles);

        void FinishWithoutTiles()
        {
            Release(_memory.QueryEmpty, _queries);
            finish();
        }
    }

    /// <summary>The last product, of an item with tiles.</summary>
    private void AddValuesOfLastTile(Action finish)
    {
        Release(_memory.QueryEmpty, _queries);
        if (_lastProduct is { } last)
        {
            _k.GoTo(last.Begin);
            _k.Mark(last.End);
        }
        else
        {
            IssueValuesOfTileAbove();
        }

        finish();
        _k.WaitForProducts(0);
        Release(_memory.ValuesEmpty, _values);
    }

    /// <summary>Whether what a row sees is in the bits of its tile, and nothing else of the row is asked for.</summary>
    private bool AsksMaskAlone => _masks is not null && !_call.Traits.Has(CallFeatures.Alibi | CallFeatures.ScoreFunction);

    /// <summary>Whether what a row sees is asked for only where a tile hides some of it: with a bias at D = 64 there are no registers for it.</summary>
    private bool AsksRowsAgain => _biases is not null && _masks is null && !_call.Traits.Has(CallFeatures.Alibi);

    /// <summary>Computes what the score function has of each row alone: four lanes the same, and one of them leaves it.</summary>
    private void LeaveRowNumbers(Func<RowReader[]> rows)
    {
        if (_tile.Lookups.RowNumbers == 0) return;
        _k.If((_lane & 3).Is(0), () =>
        {
            foreach (RowReader row in rows()) new RowFunction(FunctionBlock.OfScore(_k, _call.Traits), row, 0).LeaveNumbers(row.Numbers!);
        });
        _k.WarpBarrier();
    }

    /// <summary>The lane's rows.</summary>
    private RowReader[] RowsOfLane(WorkSlot slot, I32 head, ItemRanges ranges)
    {
        ItemReader item = slot.Item;
        SequenceReader sequence = slot.Sequence;
        I32 lastRow = item.EndRow - item.FirstRow - 1, group = _call.Group;
        return [.. Enumerable.Range(0, 2).Select(r =>
        {
            // Rows beyond the item's repeat its last one, and are not stored.
            I32 row = I32.Min(_rowOfLane + (8 * r), lastRow), query = _call.QueryOf(row);
            (I32 start, I32 end) = ranges.Of(query, item);
            var reader = new RowReader(_k, _call, sequence, item.Sequence, ranges.FirstQuery + query, I32.MultiplyAdd(head, group, row - (query * group)), start, end);
            if (_tile.Lookups.RowNumbers > 0) reader.Numbers = _memory.Lookups!.RowNumbers(_rowOfLane + (8 * r));
            return reader;
        })];
    }

    /// <summary>
    /// One tile. Weights are relative to the maximum of the tiles before as long as none of a lane's sums of them passes 2^12, which a 16-bit weight can still hold: no maximum is looked for and nothing is
    /// rescaled. Where a row's do, the scores, which the weights have replaced, are computed again, and that row gets a new maximum: a matter of the row alone, so its neighbours cannot show in its bits.
    /// </summary>
    private void AddTile(I32 key)
    {
        // Strictly below the end: of the tile above, every row has seen a key, and so has a maximum. That excludes the last tile.
        Predicate isWhole = IsSpeculatedOn(key);
        if (_masks is null) WaitFor(_memory.KeysFull, _keys);
        _biases?.Take(_keys, _masks?.Stage(_keys));
        TakeTurn();
        IssueScores();
        _k.CommitProducts();
        _k.Scope("weights", leave =>
        {
            if (IsStraight)
            {
                _k.If(isWhole, () =>
                {
                    IssueValuesOfTileAbove();
                    HandTurnOver();
                    Speculate(key, leave);
                }, () => WaitForScores(key));
            }
            else
            {
                WaitForScores(key);
                if (MaySpeculate) _k.If(isWhole, () => Speculate(key, leave));
            }

            Renew(key, isWhole);
        });
        _biases?.Release(_keys, _masks?.Stage(_keys));
        _masks?.Release(_keys);
        Release(_memory.KeysEmpty, _keys);
    }

    /// <summary>Whether weights of a tile are tried by the maximum that rows have: all of them see it whole, or as their bits say, and have one.</summary>
    private Predicate IsSpeculatedOn(I32 key)
    {
        if (!MaySpeculate) return _k.Variable("is_whole", value: false);
        if (AsksMaskAlone) return _isWarm!;
        Predicate isWhole = (key >= _wholeStart) & (key + _tile.Keys < _wholeEnd);
        return _isWarm is null ? isWhole : isWhole & _isWarm;
    }

    /// <summary>Biases beside ALiBi or a soft cap are rare, and more than the registers of a straight piece hold.</summary>
    private bool MaySpeculate => _biases is null || !_call.Traits.Has(CallFeatures.Alibi | CallFeatures.SoftCap);

    /// <summary>
    /// Whether products are issued and weights computed in one piece of straight text, in which the assembler finds the wait for the second product its place among the exponentials, some hundred instructions behind the wait for
    /// the first; at the beginning of a piece of its own it would come first, and nothing would overlap. A soft cap has a branch there. Score functions of three warpgroups have too few registers: what does not depend on the scores is
    /// moved in front of the first wait (D = 64, 8k, us: a bias by distance 1,206, and 1,146 in two pieces; of two warpgroups at D = 128 839 and 852).
    /// </summary>
    private bool IsStraight => MaySpeculate && !_call.Traits.Has(CallFeatures.SoftCap) && (_tile.Consumers == 2 || !_call.Traits.Has(CallFeatures.ScoreFunction));

    /// <summary>
    /// Whether the last product of an item has no text of its own. Where products are small that would be, the assembler saves little (D = 64, causal: 340 ms for 370 on an H100), and plain calls take 1 % longer (8k, us: 986 and 977; with ALiBi
    /// 1,065 and 1,085; at D = 128 773 and 771). Beside score functions at D = 256 it would cost a register that is not there (CUDA 13).
    /// </summary>
    private bool SharesLastProduct => IsStraight && (_call.Traits.Has(CallFeatures.ScoreFunction) ? _memory.ValueRows.Columns <= 192 : _memory.ValueRows.Columns > 64 || _call.Traits.Has(CallFeatures.Alibi));

    private bool HasFunctions => _call.Traits.Has(CallFeatures.ScoreFunction | CallFeatures.MaskFunction);

    /// <summary>Issues what goes with the scores of a tile that is not speculated on, and waits for the scores. There are no weights when the last tile comes, which is the first.</summary>
    private void WaitForScores(I32 key) => _k.If(key.Is(_lastTile), () =>
    {
        HandTurnOver();
        _k.WaitForProducts(0);
    }, () =>
    {
        if (_lastProduct is not { } last)
        {
            IssueValuesOfTileAbove();
            HandTurnOver();
            _k.WaitForProducts(1);
            return;
        }

        // Behind the last tile no scores are under way; and what is on one of two ways that meet, the assembler would wait for at each product.
        _k.WaitForProducts(0);
        _k.Mark(last.Begin);
        IssueValuesOfTileAbove();
        _k.GoTo(last.End, last.IsMeant());
        HandTurnOver();
    });

    /// <summary>Whether tiles have numbers of the score function. Both rows of a lane go together then, and a load serves both: row after row, distances in a grid spill 80 registers of three warpgroups instead of 5.</summary>
    private bool HasTileNumbers => _tile.Lookups.Numbers.Exist;
}
