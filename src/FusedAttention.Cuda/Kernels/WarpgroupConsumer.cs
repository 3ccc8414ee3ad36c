using FusedAttention.Cuda.Ptx;
using FusedAttention.Devices;

namespace FusedAttention.Cuda.Kernels;

/// <summary>
/// A warpgroup that computes: 64 rows of each item, over its tiles of keys from the last to the first. Scores of a tile are issued together with the product of the weights and values of the tile before, so
/// that the exponentials of one run beside the other; and warpgroups take turns at issuing, so that the matrix units have work while one of them computes weights.
/// </summary>
internal sealed class WarpgroupConsumer
{
    /// <summary>How large the sum of a lane's weights of a tile may become: binary16 ends at 65,504.</summary>
    private const float MostWeight = 4096;

    /// <summary>Growth of a row's maximum, in powers of two, up to which no sum passes <see cref="MostWeight"/>: a lane has at most 44 of a row's weights of a tile, each up to 2^6.</summary>
    private const float SurelySmall = 6;

    /// <summary>Growth beyond which a single weight does.</summary>
    private const float SurelyLarge = 12.5f;

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

    /// <summary>The product of the weights and values of the tile before.</summary>
    private void IssueValuesOfTileAbove()
    {
        WaitFor(_memory.ValuesFull, _values);
        IssueWeightedValues();
        _k.CommitProducts();
    }

    /// <summary>Weights of a whole tile by the maximum that each row has.</summary>
    /// <remarks>Where all is well it leaves by itself: of a condition that is asked later the assembler would not know that no product is under way, and would let them run one after the other.</remarks>
    private void Speculate(I32 key, Action leave)
    {
        if (IsStraight) _k.WaitForProducts(1);
        if (_biases is not null) AddBiases();
        F32[] sums = HasTileNumbers ? WeighTogether(key) : [.. _row.Select((row, r) =>
        {
            RowWeights weights = WeightsOf(row, key, _reference[r], isLeft: true, _masks?.Sees(r));
            if (_biases is null) weights.Prepare(RowOf(r), isWhole: true);
            return Weigh(r, weights.Weights());
        })];
        _k.WaitForProducts(0);
        Release(_memory.ValuesEmpty, _values);
        Pack();
        _k.If(!IsInWarpgroup(!(sums[0] <= MostWeight) | !(sums[1] <= MostWeight)), () =>
        {
            for (int r = 0; r < sums.Length; r++) _sum[r].Add(sums[r]);
            leave();
        });
        IssueScoresAgain();
        _k.CommitProducts();
        _k.WaitForProducts(0);
    }

    /// <summary>Weights of a tile some of whose rows need a new maximum, or do not see all of it; m, l and O are brought up to date.</summary>
    private void Renew(I32 key, Predicate isWhole)
    {
        if (HasTileNumbers) PrepareTogether(key, _maximum, isLeft: false);
        else for (int r = 0; r < _row.Length; r++) WeightsOf(_row[r], key, _maximum[r], isLeft: false, _masks?.Sees(r), _biases?.Of(r)).Prepare(RowOf(r), isWhole: false);
        if (_masks is null) HideUnreached(key);
        F32[] largest = [LargestOf(0), LargestOf(1)];
        Predicate[] isNew = AreNew(key, largest);
        F32[] rescale = [.. isNew.Select((isNewRow, r) =>
        {
            RowWeights weights = WeightsOf(_row[r], key, _maximum[r], isLeft: false);
            F32 maximum = F32.Select(isNewRow, RowWeights.Largest(_call, _maximum[r], largest[r]), _maximum[r]);
            F32 factor = F32.Select(isNewRow, RowWeights.Rescale(_call, _maximum[r], maximum, _factor), 1);
            _maximum[r].Set(maximum);
            _reference[r].Set(F32.Select(RowWeights.MayGoBy(_call, maximum, _factor), maximum, float.NaN));
            _sum[r].Set(F32.MultiplyAdd(_sum[r], factor, Weigh(r, weights.WeightsBy(maximum, isNewRow, largest[r]))));
            return factor;
        })];
        _k.WaitForProducts(0);

        // What was redone has given its values back.
        _k.If(!isWhole & key.IsNot(_lastTile), () => Release(_memory.ValuesEmpty, _values));
        Pack();
        // Of an item's first tile there is nothing yet to bring up to date.
        _k.If(_k.Any(rescale[0].IsNot(1) | rescale[1].IsNot(1)) & key.IsNot(_lastTile), () =>
        {
            for (int i = 0; i < _outputs.Length; i++) _outputs[i].Multiply(rescale[i >> 1 & 1]);
        });
        _isWarm?.Set(!IsInWarpgroup(HasNoReference()));
    }

    /// <summary>Whether tiles have numbers of the score function. Both rows of a lane go together then, and a load serves both: row after row, distances in a grid spill 80 registers of three warpgroups instead of 5.</summary>
    private bool HasTileNumbers => _tile.Lookups.Numbers.Exist;

    private F32[] WeighTogether(I32 key) => [.. PrepareTogether(key, _reference, isLeft: true).Select((row, r) => Weigh(r, row.Weights()))];

    private RowWeights[] PrepareTogether(I32 key, F32[] maximum, bool isLeft)
    {
        var numbers = new TileNumberLoads(_k, _call, _tile.Lookups.Numbers, _tile.Rows, _tile.Keys, _memory.Lookups!.Numbers(_keys.Index), _rowOfLane, _row.Length, _lane);
        RowWeights[] rows = [.. _row.Select((row, r) => WeightsOf(row, key, maximum[r], isLeft, _masks?.Sees(r), ofTile: numbers.OfRow(r)))];
        RowWeights.PrepareTogether(rows, [.. rows.Select((_, r) => RowOf(r))]);
        return rows;
    }

    private void HideUnreached(I32 key)
    {
        I32 firstKey = FirstKeyOfLane(key);
        _k.If((key < _wholeStart) | (key + _tile.Keys > _wholeEnd), () =>
        {
            RowReader?[] row = _rowsAgain?.Invoke() ?? _row;
            for (int r = 0; r < row.Length; r++) ReachWords.Hide((row[r]?.Start ?? _wholeStart) - firstKey, (row[r]?.End ?? _wholeEnd) - firstKey, RowOf(r));
        });
    }

    /// <summary>
    /// Which rows get a new maximum: those without one, and those of which a lane's sum of weights by the old one is too large. The largest score tells that of nearly all; where it does not for some row of the
    /// warp, sums are formed.
    /// </summary>
    private Predicate[] AreNew(I32 key, F32[] largest)
    {
        F32[] growth = [.. largest.Select((score, r) => RowWeights.Growth(_call, _maximum[r], score, _factor))];
        Predicate[] isNew = [.. growth.Select((power, r) =>
        {
            Predicate variable = _k.Variable($"is_new{r}", value: false);
            variable.Set(power > SurelySmall);
            return variable;
        })];
        Predicate isInDoubt = growth.Select(static power => (power > SurelySmall) & (power <= SurelyLarge)).Aggregate(static (a, b) => a | b);
        _k.If(_k.Any(isInDoubt), () =>
        {
            for (int r = 0; r < _row.Length; r++)
            {
                Func<F32, int, F32> stale = WeightsOf(_row[r], key, _maximum[r], isLeft: false).Weights();
                F32 sum = Sum(RowOf(r).Select(element => stale(element.Score, element.Column)));
                I32 isTooLarge = I32.Select((!(sum <= MostWeight)).InRegister() | _maximum[r].Is(float.NegativeInfinity), 1, 0);
                for (int bit = 1; bit < 4; bit *= 2) isTooLarge |= _k.ShuffleXor(isTooLarge, bit);
                isNew[r].Set(isTooLarge.IsNot(0));
            }
        });
        return isNew;
    }

    /// <summary>The largest score of a row, or the largest of those that are numbers.</summary>
    private F32 LargestOf(int r)
    {
        // Four chains: a single one would wait for each of its steps.
        F32[] scores = [.. RowOf(r).Select(static element => element.Score)], chains = scores[..4];
        for (int i = 4; i < scores.Length; i++) chains[i % 4] = F32.Max(chains[i % 4], scores[i]);
        return _k.Max(F32.Max(F32.Max(chains[0], chains[1]), F32.Max(chains[2], chains[3])), 1, 4);
    }

    /// <summary>Whether one of the lane's rows has no maximum that weights of whole tiles may go by.</summary>
    private Predicate HasNoReference() => _reference[0].IsNot(_reference[0]) | _reference[1].IsNot(_reference[1]);

    /// <summary>Scores of a tile that is speculated on, in natural logarithms.</summary>
    private void AddBiases()
    {
        (F32 Score, int Column)[][] rows = [RowOf(0), RowOf(1)];
        _biases!.AddTo(rows);
        for (int r = 0; r < rows.Length && _masks is not null; r++)
        {
            Func<int, Predicate> sees = _masks.Sees(r);
            foreach ((F32 score, int column) in rows[r]) score.Set(F32.Select(sees(column), score, float.NegativeInfinity));
        }
    }

    private RowWeights WeightsOf(RowReader? row, I32 key, F32 maximum, bool isLeft, Func<int, Predicate>? sees = null, Func<int, F32>? biasOf = null, Func<int, int, F32?>? ofTile = null) =>
        new(_k, _call, row, FirstKeyOfLane(key), _factor, maximum, isLeft ? null : key + (_tile.Keys - 1), sees, biasOf, ofTile);

    private I32 FirstKeyOfLane(I32 key) => key + ((_lane & 3) << 1);

    /// <summary>The lane's scores of its row g, or g + 8, and how far their keys are behind the lane's first.</summary>
    private (F32 Score, int Column)[] RowOf(int r) =>
        [.. Enumerable.Range(0, _scores.Length / 2).Select(i => (_scores[(i / 2 * 4) + (2 * r) + (i & 1)], (i / 2 * 8) + (i & 1)))];

    /// <summary>Puts weights in the place of a row's scores, and returns the lane's sum of them.</summary>
    private F32 Weigh(int r, Func<F32, int, F32> weightOf)
    {
        foreach ((F32 score, int column) in RowOf(r)) score.Set(weightOf(score, column));
        return Sum(RowOf(r).Select(static element => element.Score));
    }

    /// <summary>Two sums side by side, always in this order: what is decided by a sum is decided alike wherever it is formed.</summary>
    private static F32 Sum(IEnumerable<F32> weights)
    {
        var halves = new F32?[2];
        int count = 0;
        foreach (F32 weight in weights)
        {
            int half = count++ & 1;
            halves[half] = halves[half] is { } sum ? sum + weight : weight;
        }

        return halves[0]! + halves[1]!;
    }

    /// <summary>Sums of 16 columns, rounded, are a left factor.</summary>
    private void Pack()
    {
        for (int i = 0; i < _weights.Length; i++) _weights[i].SetRounded(Format, _scores[2 * i], _scores[(2 * i) + 1]);
    }

    /// <summary>S = Q K^T.</summary>
    private void IssueScores()
    {
        (MatrixDescriptor queries, MatrixDescriptor keys) = FactorsOfScores();
        _k.FenceProducts();
        for (int step = 0; step < _memory.KeyRows.StepsOfColumns; step++)
            _k.IssueProduct(Format, _scores, queries + _memory.QueryRows.UnitsOfColumns(step), keys + _memory.KeyRows.UnitsOfColumns(step), adds: step > 0);
    }

    /// <summary>The same as a loop, since it is rare.</summary>
    private void IssueScoresAgain()
    {
        (MatrixDescriptor queries, MatrixDescriptor keys) = FactorsOfScores();
        _k.FenceProducts();
        _k.ForRolled("step", 0, _memory.KeyRows.StepsOfColumns, 1, step =>
            _k.IssueProduct(Format, _scores, queries + _memory.QueryRows.UnitsOfColumns(step), keys + _memory.KeyRows.UnitsOfColumns(step), adds: step > 0));
    }

    private (MatrixDescriptor Queries, MatrixDescriptor Keys) FactorsOfScores() =>
        (new(I32.MultiplyAdd(_queries.Index, _memory.QueryRows.Bytes >> 4, _queryLow), _descriptorHigh), new(I32.MultiplyAdd(_keys.Index, _memory.KeyRows.Bytes >> 4, _keyLow), _descriptorHigh));

    /// <summary>O += P V.</summary>
    private void IssueWeightedValues()
    {
        var values = new MatrixDescriptor(I32.MultiplyAdd(_values.Index, _memory.ValueRows.Bytes >> 4, _valueLow), _descriptorHigh);
        _k.FenceProducts();
        for (int step = 0; step < _memory.ValueRows.StepsOfRows; step++) _k.IssueProduct(Format, _outputs, _weights[(4 * step)..((4 * step) + 4)], values + BoxedRows.UnitsOfRows(step));
    }

    private void WaitFor(Shared full, StageRing ring) => _k.WaitForPhase(WarpgroupMemory.Of(full, ring), ring.Parity);

    /// <summary>The warp is done with a stage: its lanes have waited together for the products that read it.</summary>
    private void Release(Shared empty, StageRing ring)
    {
        // The address is every lane's, so that it stays where all lanes have one.
        Shared barrier = WarpgroupMemory.Of(empty, ring);
        _k.Where(_lane.Is(0), () => _k.Arrive(barrier));
        ring.Advance();
    }

    /// <summary>The first warpgroup may issue at once.</summary>
    private void BeginTurns() => _k.If(_warpgroup.Is(_tile.Consumers - 1), () => _k.ArriveAt(TurnOf(0), 2 * WarpgroupTile.WarpgroupThreads));

    private void TakeTurn() => _k.Barrier(_warpgroup + 1, 2 * WarpgroupTile.WarpgroupThreads);

    private void HandTurnOver()
    {
        I32 next = _warpgroup + 1;
        _k.ArriveAt(I32.Select(next.Is(_tile.Consumers), TurnOf(0), next + 1), 2 * WarpgroupTile.WarpgroupThreads);
    }

    /// <summary>Barrier 0 is the block's; then each warpgroup's turn, and behind those each one's own.</summary>
    private static I32 TurnOf(int warpgroup) => 1 + warpgroup;

    /// <summary>Whether it holds in any thread of the warpgroup. All of its warps must go the same way where products are issued; the vote makes of that a fact that the assembler knows.</summary>
    private Predicate IsInWarpgroup(Predicate condition) => _k.Any(_k.BarrierAny(_warpgroup + (1 + _tile.Consumers), WarpgroupTile.WarpgroupThreads, condition));

    /// <summary>
    /// A piece of text that issues products and is come to from two places. The assembler's time grows with the square of the products that write the same registers, and with more than the square of how many those are: with five groups of
    /// them, each as straight text, it took 0.8 s at D = 128 and 2.0 s at 256 (CUDA 12.4, one processor of a server), with two and a loop 0.5 and 1.0.
    /// </summary>
    /// <param name="Begin">Where it is gone to.</param>
    /// <param name="End">Where it goes on for who has come from there.</param>
    /// <param name="IsMeant">Whether it does.</param>
    private sealed record SharedProduct(string Begin, string End, Func<Predicate> IsMeant);
}
