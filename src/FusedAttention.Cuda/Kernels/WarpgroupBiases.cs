using FusedAttention.Cuda.Ptx;

namespace FusedAttention.Cuda.Kernels;

/// <summary>
/// Biases for a warpgroup that computes. 16-bit elements are read as matrices of eight rows and columns (<c>ldmatrix</c>), which gives a lane what it has of the scores, four matrices at a time; floats are read two at a time, and those
/// that all rows share for both of a lane's rows.
/// </summary>
internal sealed class WarpgroupBiases
{
    private const int MatricesTogether = 4;

    private readonly PtxKernel _k;
    private readonly CallReader _call;
    private readonly WarpgroupLookupMemory _places;
    private readonly WarpgroupTile _tile;
    private readonly I32 _rowOfLane;
    private readonly I32 _lane;

    /// <summary>From where a tile's bias begins to what the lane reads first: of its row, or, where it gives the address of a matrix's row, of that.</summary>
    private readonly I32[] _offset;

    /// <summary>Where the tile's bias begins.</summary>
    private readonly I32 _stage;

    /// <param name="k">The kernel.</param>
    /// <param name="call">The call.</param>
    /// <param name="memory">Where everything lies.</param>
    /// <param name="tile">Its sizes.</param>
    /// <param name="rowOfLane">The lane's first row, of the block's.</param>
    /// <param name="lane">Of the warp.</param>
    public WarpgroupBiases(PtxKernel k, CallReader call, WarpgroupMemory memory, WarpgroupTile tile, I32 rowOfLane, I32 lane)
    {
        (_k, _call, _places, _tile, _rowOfLane, _lane) = (k, call, memory.Lookups!, tile, rowOfLane, lane);
        _offset = k.Registers<I32>("bias_offset", tile.Lookups.HasBiasOfKeys ? 1 : 2);
        _stage = k.Variable("bias_stage_address", (I32)0);
    }

    private static I32 StageOf(StageRing keys, I32? maskStage) => maskStage is null ? keys.Index : WarpgroupSeenTiles.BiasStage(maskStage);

    private int Bytes => _tile.Lookups.HasBiasOfKeys ? sizeof(float) : _tile.Lookups.BiasBytes;

    private I32 PairOfLane => (_lane & 3) << 3;

    private ElementFormat Format => CallReader.FormatOf(_call.Traits.BiasType);

    /// <summary>In front of an item.</summary>
    public void Begin(ItemReader item)
    {
        if (_tile.Lookups.HasBiasOfKeys)
        {
            _offset[0].Set(PairOfLane);
            return;
        }

        var rows = new WarpgroupBiasRows(_call, item);
        I32 last = item.EndRow - item.FirstRow - 1;
        for (int r = 0; r < _offset.Length; r++)
        {
            I32 row = (Bytes == 2 ? _rowOfLane - (_lane >>> 2) + (_lane & 7) : _rowOfLane) + (8 * r);
            I32 of = rows.Of(I32.Min(row, last));
            _offset[r].Set((of << 7) + (Bytes == 2 ? WarpgroupBiasCopier.Moved(Bytes, _lane >>> 3, of) << 4 : (WarpgroupBiasCopier.Moved(Bytes, 0, of) << 4) + PairOfLane));
        }
    }

    /// <summary>Waits for a tile's bias, unless it has come with the keys.</summary>
    /// <param name="keys">The ring of keys: without a mask, which has tiles passed over, biases have as many stages and go round with it.</param>
    /// <param name="maskStage">The stage of the tile's mask; null without one: who copied its keys has waited for the bias.</param>
    public void Take(StageRing keys, I32? maskStage)
    {
        if (maskStage is null && !_tile.Lookups.HasBiasWithKeys) _k.WaitForPhase(WarpgroupMemory.Of(_places.BiasFull, keys), keys.Parity);
        _stage.Set(_places.Bias(StageOf(keys, maskStage)).ToI32());
    }

    /// <summary>The warp is done with the tile.</summary>
    public void Release(StageRing keys, I32? maskStage)
    {
        if (_tile.Lookups.HasBiasWithKeys) return;
        I32 stage = StageOf(keys, maskStage);
        _k.Where(_lane.Is(0), () => _k.Arrive(_places.BiasEmpty + (stage << 3)));
    }

    /// <summary>The bias of a row's keys, by their distance from the lane's first. Loads are written where the first of their elements is asked for.</summary>
    /// <param name="row">0 or 1, of the lane's.</param>
    public Func<int, F32> Of(int row)
    {
        var loaded = new Dictionary<int, F32[]>();
        return column =>
        {
            int matrix = column / 8, first = Bytes == 2 ? matrix / MatricesTogether * MatricesTogether : matrix;
            if (!loaded.TryGetValue(first, out F32[]? elements)) loaded.Add(first, elements = Bytes == 2 ? LoadMatrices(row, first) : LoadPair(row, first));
            return elements[((matrix - first) * 2) + (column % 8)];
        };
    }

    /// <summary>Scores times scale, plus the bias: for whole tiles of rows all of whose scores are numbers. What else there is shows in the sum of the weights.</summary>
    /// <param name="products">Of the lane's two rows, alike in columns.</param>
    public void AddTo((F32 Score, int Column)[][] products)
    {
        if (_tile.Lookups.HasBiasOfKeys)
        {
            Func<int, F32> bias = Of(0);
            foreach (((F32 upper, int column), (F32 lower, int _)) in products[0].Zip(products[1]))
            {
                Add(upper, bias(column));
                Add(lower, bias(column));
            }

            return;
        }

        for (int row = 0; row < products.Length; row++)
        {
            Func<int, F32> bias = Of(row);
            foreach ((F32 score, int column) in products[row]) Add(score, bias(column));
        }
    }

    private void Add(F32 score, F32 bias) => score.Set(F32.MultiplyAdd(score, _call.Scale, bias));

    private F32[] LoadMatrices(int row, int first)
    {
        const int MatricesOfBox = WarpgroupLookups.BiasRowBytes / 16;
        int chunk = first % MatricesOfBox * 16;
        Shared at = new Shared(_stage + (_offset[row] ^ chunk)) + (first / MatricesOfBox * WarpgroupLookups.BiasBoxBytes(_tile.Rows));
        Pair[] pairs = (_tile.Keys / 8) - first < MatricesTogether ? _k.LoadTwoMatrices(at) : _k.LoadMatrices(at);
        return [.. pairs.SelectMany(pair =>
        {
            (F32 low, F32 high) = pair.Widen(Format);
            return new[] { low, high };
        })];
    }

    private F32[] LoadPair(int row, int first)
    {
        if (_tile.Lookups.HasBiasOfKeys) return _k.LoadVector<F32>(new Shared(_stage + _offset[0]) + (first * 32), 2);
        const int PairsOfBox = WarpgroupLookups.BiasRowBytes / 32;
        var at = new Shared(_stage + (_offset[row] ^ (first % PairsOfBox * 32)));
        return _k.LoadVector<F32>(at + (first / PairsOfBox * WarpgroupLookups.BiasBoxBytes(_tile.Rows)), 2);
    }
}
