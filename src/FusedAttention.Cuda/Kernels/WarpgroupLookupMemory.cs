using FusedAttention.Cuda.Ptx;

namespace FusedAttention.Cuda.Kernels;

/// <summary>Where in shared memory lies what scores are looked up in, behind everything else: barriers, which tile is in a stage of keys, the bits of masks, and what packers have for themselves.</summary>
internal sealed class WarpgroupLookupMemory
{
    /// <summary>Barriers and words of stages.</summary>
    public const int HeadBytes = 256;

    private const int BarrierBytes = 8;
    private const int TilesOffset = 128;
    private const int WarpLanes = 32;

    private readonly PtxKernel _k;
    private readonly WarpgroupTile _tile;
    private readonly Shared _masks;
    private readonly Shared _biases;
    private readonly Shared _rowNumbers;
    private readonly Shared _numbers;

    /// <param name="k">The kernel.</param>
    /// <param name="tile">Its sizes.</param>
    /// <param name="at">Where it begins, a multiple of 128.</param>
    public WarpgroupLookupMemory(PtxKernel k, WarpgroupTile tile, Shared at)
    {
        (_k, _tile) = (k, tile);
        MaskFull = at;
        MaskEmpty = MaskFull + (WarpgroupLookups.MaskStages * BarrierBytes);
        BiasFull = MaskEmpty + (WarpgroupLookups.MaskStages * BarrierBytes);
        BiasEmpty = BiasFull + (WarpgroupLookups.BiasStages * BarrierBytes);
        Tiles = at + TilesOffset;
        _biases = at + HeadBytes;
        BiasRows = _biases + (WarpgroupLookups.BiasStages * tile.Lookups.BiasStageBytes(tile.Rows, tile.Keys));
        _masks = tile.Lookups.HasBias ? BiasRows + tile.Lookups.BiasRowsBytes(tile.Rows) : _biases;
        _rowNumbers = _masks + tile.Lookups.MaskBytes(tile.Rows, tile.Keys);
        _numbers = _rowNumbers + tile.Lookups.RowNumberBytes(tile.Rows);
    }

    /// <summary>The bits of a tile are there: one arrival for every 32 rows.</summary>
    public Shared MaskFull { get; }

    /// <summary>Nobody needs them any more: one arrival of each warp that computes.</summary>
    public Shared MaskEmpty { get; }

    /// <summary>The bias of a tile is there: one arrival of each lane that copies. Nobody's where it comes with the keys.</summary>
    public Shared BiasFull { get; }

    /// <summary>Nobody needs it any more: one arrival of each warp that computes.</summary>
    public Shared BiasEmpty { get; }

    /// <summary>Where the item's rows of the bias begin, in device memory, if there are several.</summary>
    public Shared BiasRows { get; }

    /// <summary>For each stage of keys the first key of its tile, and the stage of its mask.</summary>
    public Shared Tiles { get; }

    /// <summary>Warps that compute.</summary>
    public int Computing => _tile.Consumers * WarpgroupTile.WarpgroupThreads / 32;

    /// <summary>Parts of 32 rows.</summary>
    public int Parts => _tile.Rows / WarpgroupLookups.PackedRows;

    /// <summary>The bits of a tile's rows.</summary>
    public Shared Mask(I32 stage) => _masks + (stage * WarpgroupLookups.MaskStageBytes(_tile.Rows));

    /// <summary>Of a tile, for every 32 rows whether one of them sees a key.</summary>
    public Shared Flags(I32 stage) => Mask(stage) + WarpgroupLookups.FlagsOffset(_tile.Rows);

    /// <summary>The bias of a tile's rows, or of its keys.</summary>
    public Shared Bias(I32 stage) => _biases + (stage * _tile.Lookups.BiasStageBytes(_tile.Rows, _tile.Keys));

    /// <summary>The numbers of a row of the item, by its place in the block.</summary>
    public Shared RowNumbers(I32 row) => _rowNumbers + (row * (_tile.Lookups.RowNumbers * sizeof(float)));

    /// <summary>The numbers of a tile, by the stage of its keys.</summary>
    public Shared Numbers(I32 stage) => _numbers + (stage * _tile.Lookups.Numbers.Bytes(_tile.Rows, _tile.Keys));

    /// <summary>What one packer has for itself.</summary>
    public Shared Packer(I32 packer) =>
        _masks + (WarpgroupLookups.MaskStages * WarpgroupLookups.MaskStageBytes(_tile.Rows)) + (packer * WarpgroupLookups.PackerBytes(_tile.Rows, _tile.Keys));

    /// <summary>By one thread, in front of everything.</summary>
    public void Initialize()
    {
        for (int stage = 0; stage < WarpgroupLookups.MaskStages && _tile.Lookups.HasMask; stage++)
        {
            _k.InitializeArrivals(MaskFull + (stage * BarrierBytes), Parts);
            _k.InitializeArrivals(MaskEmpty + (stage * BarrierBytes), Computing);
        }

        for (int stage = 0; stage < WarpgroupLookups.BiasStages && _tile.Lookups.HasBias; stage++)
        {
            _k.InitializeArrivals(BiasFull + (stage * BarrierBytes), WarpLanes);
            _k.InitializeArrivals(BiasEmpty + (stage * BarrierBytes), Computing);
        }
    }
}
