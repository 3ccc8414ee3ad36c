using System.Numerics;
using FusedAttention.Cuda.Ptx;

namespace FusedAttention.Cuda.Kernels;

/// <summary>Where everything lies in the shared memory of a prefill by warpgroups: barriers, the queue of work, queries, and the stages of keys and of values.</summary>
internal sealed class WarpgroupMemory
{
    /// <summary>In front of the queries.</summary>
    public const int HeadBytes = 1024;

    /// <summary>Items in the queue: the one that is worked on and the next.</summary>
    public const int Slots = 2;

    /// <summary>Of an item in the queue: itself, its sequence, its head, what its rows see.</summary>
    public const int SlotBytes = 208;

    /// <summary>Items to be done again that are remembered.</summary>
    public const int MostAgain = 64;

    private const int BarrierBytes = 8;
    private const int SlotsOffset = 256;
    private const int AgainOffset = SlotsOffset + (Slots * SlotBytes);

    private readonly PtxKernel _k;
    private readonly WarpgroupTile _tile;

    public WarpgroupMemory(PtxKernel k, WarpgroupTile tile, int keyDim, int valueDim)
    {
        (_k, _tile) = (k, tile);
        QueryRows = new(keyDim, tile.Rows);
        KeyRows = new(keyDim, tile.Keys);
        ValueRows = new(valueDim, tile.Keys);
        Shared head = k.SharedMemory;
        int barrier = 0;
        Shared Take(int count)
        {
            Shared at = head + (barrier * BarrierBytes);
            barrier += count;
            return at;
        }

        QueryFull = Take(tile.QueryStages);
        QueryEmpty = Take(tile.QueryStages);
        KeysFull = Take(WarpgroupTile.Stages);
        KeysEmpty = Take(WarpgroupTile.Stages);
        ValuesFull = Take(WarpgroupTile.Stages);
        ValuesEmpty = Take(WarpgroupTile.Stages);
        ValuesRaw = Take(1);
        WorkLoaded = Take(1);
        WorkFull = Take(Slots);
        WorkEmpty = Take(Slots);
        WorkSlots = head + SlotsOffset;
        AgainCount = head + AgainOffset;
        Again = AgainCount + 16;
        Queries = head + HeadBytes;
        Keys = Queries + (tile.QueryStages * QueryRows.Bytes);
        Values = Keys + (WarpgroupTile.Stages * KeyRows.Bytes);
        if (tile.Lookups != default) Lookups = new(k, tile, Values + (WarpgroupTile.Stages * ValueRows.Bytes));
    }

    public BoxedRows QueryRows { get; }

    public BoxedRows KeyRows { get; }

    public BoxedRows ValueRows { get; }

    public Shared QueryFull { get; }

    public Shared QueryEmpty { get; }

    public Shared KeysFull { get; }

    public Shared KeysEmpty { get; }

    public Shared ValuesFull { get; }

    public Shared ValuesEmpty { get; }

    /// <summary>Values that are looked at before they are full.</summary>
    public Shared ValuesRaw { get; }

    /// <summary>The keys of the last item that was announced have all been asked for: the next one may be chosen.</summary>
    public Shared WorkLoaded { get; }

    public Shared WorkFull { get; }

    public Shared WorkEmpty { get; }

    public Shared WorkSlots { get; }

    /// <summary>How many items were found that are to be done again.</summary>
    public Shared AgainCount { get; }

    /// <summary>Their numbers, over and over the same <see cref="MostAgain"/> places.</summary>
    public Shared Again { get; }

    public Shared Queries { get; }

    public Shared Keys { get; }

    public Shared Values { get; }

    /// <summary>What scores are looked up in; null where there is nothing.</summary>
    public WarpgroupLookupMemory? Lookups { get; }

    /// <summary>By one thread, in front of everything: what is full is so by one arrival, and empty by one of each warp that reads; items are read by the two that copy, too.</summary>
    public void Initialize()
    {
        int readers = _tile.Consumers * WarpgroupTile.WarpgroupThreads / 32;
        foreach ((Shared barrier, int count, int arrivals) in ((Shared, int, int)[])
            [
                (QueryFull, _tile.QueryStages, 1), (QueryEmpty, _tile.QueryStages, readers), (KeysFull, WarpgroupTile.Stages, _tile.Lookups.BringersOfKeys), (KeysEmpty, WarpgroupTile.Stages, readers + _tile.Lookups.TileReaders), (ValuesFull, WarpgroupTile.Stages, 1),
                (ValuesEmpty, WarpgroupTile.Stages, readers), (ValuesRaw, 1, 1), (WorkLoaded, 1, 1), (WorkFull, Slots, 1), (WorkEmpty, Slots, readers + 2 + _tile.Lookups.ItemReaders),
            ])
        {
            for (int i = 0; i < count; i++) _k.InitializeArrivals(barrier + (i * BarrierBytes), arrivals);
        }

        Lookups?.Initialize();
        _k.Store(AgainCount, I32.InRegister(_k, 0));
        _k.PublishArrivals();
    }

    /// <summary>The barrier of a stage.</summary>
    public static Shared Of(Shared barriers, StageRing ring) => barriers + (ring.Index << 3);
}

/// <summary>Which of several places is next, and in which phase its barriers are: places are gone through over and over.</summary>
/// <param name="k">The kernel.</param>
/// <param name="name">In the text.</param>
/// <param name="places">One or more.</param>
/// <param name="parity">Of the first phase that is waited for: 0 for those who wait for what others do first, 1 for those who begin.</param>
internal sealed class StageRing(PtxKernel k, string name, int places, int parity)
{
    public I32 Index { get; } = places == 1 ? 0 : k.Variable($"{name}_stage", (I32)0);

    public I32 Parity { get; } = k.Variable($"{name}_parity", (I32)parity);

    public void Advance()
    {
        if (places == 1)
        {
            Parity.Set(Parity ^ 1);
            return;
        }

        if (places == 2)
        {
            Index.Set(Index ^ 1);
            Parity.Set(Parity ^ Index ^ 1);
            return;
        }

        I32 next = Index + 1;
        Index.Set(BitOperations.IsPow2(places) ? next & (places - 1) : I32.Select(next.Is(places), 0, next));
        Parity.Set(I32.Select(Index.Is(0), Parity ^ 1, Parity));
    }
}
