using FusedAttention.Cuda.Ptx;

namespace FusedAttention.Cuda.Kernels;

/// <summary>The stages of a decode block whose keys and values come in boxes: for each two barriers, the boxes of its keys, and behind them those of its values.</summary>
internal sealed class BoxStages
{
    private const int BarrierBytes = 8;

    private readonly PtxKernel _k;
    private readonly DecodeTile _tile;
    private readonly int _stageBytes;
    private readonly Shared _barriers;

    public BoxStages(PtxKernel k, in DecodeTile tile, int keyDim, int valueDim)
    {
        (_k, _tile, _stageBytes) = (k, tile, tile.StageBytes(keyDim, valueDim));
        (KeyRows, ValueRows) = (tile.BoxedRowsOf(keyDim), tile.BoxedRowsOf(valueDim));
        _barriers = k.SharedMemory + tile.BarriersOffset;
        First = k.SharedMemory + tile.HeadBytes;
    }

    public BoxedRows KeyRows { get; }

    public BoxedRows ValueRows { get; }

    /// <summary>The first stage.</summary>
    public Shared First { get; }

    /// <summary>By one thread, in front of everything: a stage is full by an arrival each for keys and for values, and empty by one of each warp that reads.</summary>
    public void Initialize()
    {
        for (int stage = 0; stage < _tile.Stages; stage++)
        {
            _k.InitializeArrivals(_barriers + (2 * stage * BarrierBytes), 2);
            _k.InitializeArrivals(_barriers + (((2 * stage) + 1) * BarrierBytes), _tile.Warps);
        }

        _k.PublishArrivals();
    }

    public Shared FullOf(StageRing ring) => _barriers + (ring.Index << 4);

    public Shared EmptyOf(StageRing ring) => FullOf(ring) + BarrierBytes;

    public Shared StageOf(StageRing ring) => First + (ring.Index * _stageBytes);
}
