using FusedAttention.Cuda.Ptx;
using FusedAttention.Devices;

namespace FusedAttention.Cuda.Kernels;

/// <summary>
/// Attention of up to 16 rows (the query heads of a key/value head, times queries) against many keys: bound by reading K and V. The rows are those of one matrix product, so a key that was loaded serves all
/// of them.
/// </summary>
/// <remarks>
/// Warps take steps of 16 keys in turn; how these come to shared memory is what the two forms differ in (<see cref="CopyDecodeKernel"/>, <see cref="BoxDecodeKernel"/>), and no bit shows which. After each split of 512 keys the
/// warps of a block bring m, l and O together (<see cref="DecodeFold"/>). An item has one split, a group of splits, or all keys of its rows; where they are several items, the last block to arrive folds what the others have left,
/// by the same arithmetic in the same order (<see cref="DecodeEnd"/>). So there is one launch, and the bits are the same on every run and for every way to cut the keys.
/// </remarks>
internal abstract class DecodeKernel
{
    private readonly F32 _factor;
    private readonly RowReader[] _row;
    private readonly Pair[][] _queries;
    private readonly F32[] _outputs;
    private readonly F32[] _maximum;
    private readonly F32[] _sum;
    private readonly DecodeFold _fold;
    private readonly StepScales? _scales;

    /// <param name="k">The kernel.</param>
    /// <param name="call">The call.</param>
    /// <param name="tile">Its sizes.</param>
    /// <param name="place">What the block works on.</param>
    /// <param name="thread">Of those that have keys.</param>
    protected DecodeKernel(PtxKernel k, CallReader call, in DecodeTile tile, WorkPlace place, I32 thread)
    {
        (K, Call, Tile, Place, Thread) = (k, call, tile, place, thread);
        Lane = (thread & 31).As("lane");
        Warp = k.ShuffleFrom(thread >>> 5, 0).As("warp");
        _factor = ScoreWriter.Factor(call).As("factor");
        // Rows beyond the item's repeat its last one, and are not stored.
        I32 firstRow = place.Item.FirstRow + (Lane >>> 2);
        _row = [place.RowAt(firstRow), place.RowAt(firstRow + 8)];
        _queries = QueryFactors.Load(k, call, _row, Lane);
        if (call.KeyValueFormat.Bytes() == 1) EightBits = new(k, new(k, call.KeyValueFormat, call.QueryFormat), call.QueryFormat);
        if (call.Traits.Has(CallFeatures.KeyScale | CallFeatures.ValueScale)) _scales = new(k, call, place, Lane, tile.Keys);
        Specials = new(k, call, k.SharedMemory, thread);
        _outputs = k.Registers<F32>("o", call.Traits.ValueDim / 2);
        _maximum = k.Registers<F32>("m", 2);
        _sum = k.Registers<F32>("l", 2);
        _fold = new(k, call, tile, Lane, Warp, thread, _factor);
    }

    protected PtxKernel K { get; }

    protected CallReader Call { get; }

    protected DecodeTile Tile { get; }

    protected WorkPlace Place { get; }

    protected I32 Thread { get; }

    protected I32 Lane { get; }

    protected I32 Warp { get; }

    protected SpecialValues Specials { get; }

    /// <summary>The products with keys and values of 8 bits; null where those are of 16.</summary>
    protected EightBitSums? EightBits { get; }

    protected int StageBytes => Tile.StageBytes(Call.Traits.KeyDim, Call.Traits.ValueDim);

    /// <param name="traits">What it is specialised for: 16-bit elements of one type, dimensions that are multiples of 8.</param>
    /// <param name="tile">Its sizes.</param>
    /// <param name="mostPolls">After how many looks a wait for boxes traps, for finding what hangs; 0: never.</param>
    /// <param name="hasLongParameters">Whether the parameter has <see cref="CallBlock.LongParameterBytes"/>.</param>
    public static PtxKernel Write(in KernelTraits traits, in DecodeTile tile, int mostPolls = 0, bool hasLongParameters = false) =>
        tile.HasBoxes ? BoxDecodeKernel.WriteText(traits, tile, mostPolls, hasLongParameters) : CopyDecodeKernel.WriteText(traits, tile, hasLongParameters);

    /// <summary>The work of the threads that have keys.</summary>
    protected void Write()
    {
        Predicate isCareful = K.Variable("is_careful", value: false);
        K.Repeat("pass", () =>
        {
            _fold.Clear();
            BeginSplit();
            _scales?.Begin(FirstStep() + (Warp * Tile.Keys));
            AddAllKeys(isCareful);
            Predicate isSuspect = !SpecialValues.AreNone(_fold.Whole().Outputs);
            Predicate again = EndPass(isSuspect & !isCareful);
            isCareful.Set(isCareful | again);
            K.If(again, () =>
            {
                Specials.Reset();
                K.Barrier();
            });
            return again;
        });
        // Looked up again: registers that the loop does not need are few.
        WorkPlace place = WorkPlace.Of(K, Call, K.BlockX());
        new DecodeEnd(K, Call, place, Tile, Lane, Warp, Thread, ScoreWriter.Unit(Call), _factor).Write(_fold.Whole(), isCareful, Specials);
    }

    /// <summary>The steps of the block, in which each warp has keys of its own.</summary>
    protected abstract void AddAllKeys(Predicate isCareful);

    /// <summary>Waits for all; whether any of them has the keys come once more.</summary>
    protected abstract Predicate EndPass(Predicate again);

    /// <summary>Zeros in the place of a step's special values.</summary>
    protected abstract void Clean(Shared stage, I32 key);

    /// <summary><c>S += Q K^T</c> over a step.</summary>
    protected abstract void AddProducts(F32[] scores, Pair[][] queries, Shared stage);

    /// <summary><c>O += P V</c> over a step.</summary>
    protected abstract void AddWeightedValues(F32[] outputs, Pair[][] weights, Shared stage);

    /// <summary>The first step; they begin at multiples of their keys, wherever an item does.</summary>
    protected I32 FirstStep() => (Place.Item.FirstKey & -Tile.TileKeys).As("first_step");

    /// <summary>Of a key that a group begins with, these bits are zero.</summary>
    protected I32 GroupMask() => (I32.ShiftLeft(I32.InRegister(K, 1), Place.Item.GroupShift) - 1).As("group_mask");

    /// <summary>Behind a step: where a split ends, what the warps have is brought together.</summary>
    /// <param name="next">The first key of the next step.</param>
    /// <param name="groupMask"><see cref="GroupMask"/>.</param>
    /// <param name="place">What <see cref="DecodeFold.Take"/> may have.</param>
    /// <param name="taken">Where that is done.</param>
    protected void EndStep(I32 next, I32 groupMask, Shared place, Action? taken = null)
    {
        Predicate isEnd = next >= Place.Item.EndKey;
        K.If(isEnd | (next & (DecodeTile.SplitKeys - 1)).Is(0), () =>
        {
            _fold.Take(place, _outputs, _maximum, _sum, isEnd | (next & groupMask).Is(0));
            BeginSplit();
            taken?.Invoke();
        });
    }

    private void BeginSplit()
    {
        foreach (F32 output in _outputs) output.Set(0);
        foreach (F32 maximum in _maximum) maximum.Set(float.NegativeInfinity);
        foreach (F32 sum in _sum) sum.Set(0);
    }

    /// <summary>Takes one step of keys through products, softmax and weighted sums.</summary>
    protected void AddKeys(Shared stage, I32 key, Predicate isCareful)
    {
        K.If(isCareful, () =>
        {
            Clean(stage, key);
            K.WarpBarrier();
        });

        _scales?.Advance(key + Tile.TileKeys);
        F32[] scores = Products(stage);
        _scales?.Load();
        Finish(scores, key);
        Pair[][] weights = Softmax(scores);
        AddWeightedValues(_outputs, weights, stage);
    }

    /// <summary>S = Q K^T: four registers for eight keys.</summary>
    private F32[] Products(Shared stage)
    {
        F32[] scores = K.Registers<F32>("s", Tile.Keys / 2);
        foreach (F32 score in scores) score.Set(0);
        AddProducts(scores, _queries, stage);
        return scores;
    }

    /// <summary>From products to scores: modifications, and the ends of what rows may see, where a step reaches over them.</summary>
    private void Finish(F32[] scores, I32 key)
    {
        I32 first = (key + ((Lane & 3) << 1)).As("first_key");
        if (_scales is { HasKeys: true }) ForScales(scores, areValues: false, static (score, scale) => score.Multiply(scale));
        for (int r = 0; r < 2; r++) ScoreWriter.Modify(K, Call, _row[r], RowOf(scores, r), first);
        Predicate ReachesOver(RowReader row) => (key < row.Start) | (key + Tile.Keys > row.End);
        K.If(K.Any(ReachesOver(_row[0]) | ReachesOver(_row[1])), () =>
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
            F32 newMaximum = F32.Max(_maximum[r], K.Max(largest, 1, 4));
            F32 @base = ScoreWriter.BaseOf(newMaximum);
            rescale[r] = ScoreWriter.WeightOf(_maximum[r], @base, _factor);
            _maximum[r].Set(newMaximum);
            foreach (F32 score in own) score.Set(ScoreWriter.WeightOf(score, @base, _factor));
            F32 sum = own[1..].Aggregate(own[0], (x, y) => x + y);
            _sum[r].Set(F32.MultiplyAdd(_sum[r], rescale[r], sum));
        }

        K.If(K.Any(rescale[0].IsNot(1) | rescale[1].IsNot(1)), () =>
        {
            for (int i = 0; i < _outputs.Length; i++) _outputs[i].Multiply(rescale[i >> 1 & 1]);
        });
        // A scale of what nobody sees may be anything: its weight is zero, and stays that.
        if (_scales is { HasValues: true }) ForScales(scores, areValues: true, static (weight, scale) => weight.Set(F32.Select(weight.Is(0), 0, weight * scale)));
        return MatrixSums.LeftFactors(Call.QueryFormat, scores);
    }

    /// <summary>Each of the lane's scores or weights with the scale of its key, or of its value.</summary>
    private void ForScales(F32[] scores, bool areValues, Action<F32, F32> apply)
    {
        I32 first = (Lane & 3) << 1;
        for (int column = 0; column < Tile.Keys; column += 8)
        {
            for (int i = 0; i < 2; i++)
            {
                F32 scale = _scales!.Of(first + (column + i), areValues);
                for (int r = 0; r < 2; r++) apply(scores[(column / 2) + (2 * r) + i], scale);
            }
        }
    }
}
