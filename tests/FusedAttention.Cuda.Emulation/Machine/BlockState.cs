using FusedAttention.Cuda.Emulation.Memory;
using FusedAttention.Cuda.Emulation.Programs;

namespace FusedAttention.Cuda.Emulation.Machine;

/// <summary>A block of threads: its warps, its shared memory, its barriers. One object is many blocks of a launch, one after the other.</summary>
internal sealed unsafe class BlockState : IDisposable
{
    /// <summary>A clock from which on everything begins anew.</summary>
    private const uint LateClock = SharedMemory.MostClock / 2;

    private readonly Warp[] _warps;
    private readonly NamedBarrier[] _barriers = [.. Enumerable.Range(0, 16).Select(static n => new NamedBarrier(n))];
    private int[] _order = [];
    private Random _random = new(0);
    private uint _clock = 1;

    public BlockState(LaunchState launch)
    {
        Launch = launch;
        Shared = new(launch.SharedBytes);
        Engine = new(this);
        _warps = [.. Enumerable.Range(0, (launch.Threads + Lanes.Count - 1) / Lanes.Count).Select(n => new Warp(launch.Program, this, n))];
    }

    public LaunchState Launch { get; }

    /// <summary>What copies boxes of tensors.</summary>
    public CopyEngine Engine { get; }

    /// <summary>Barriers in shared memory, by their addresses.</summary>
    public Dictionary<uint, ArrivalBarrier> Arrivals { get; } = [];

    public SharedMemory Shared { get; }

    /// <summary>Where the block is in the grid.</summary>
    public (int X, int Y, int Z) Index { get; private set; }

    /// <summary>Whether all of its warps have ended.</summary>
    public bool HasEnded => Array.TrueForAll(_warps, static warp => warp.State == WarpState.Ended);

    /// <summary>Counts what others may have waited for.</summary>
    public long Events { get; set; }

    /// <summary>All instructions of its warps.</summary>
    public long Executed => _warps.Sum(static warp => warp.Executed);

    public void Begin((int X, int Y, int Z) index, int number)
    {
        Index = index;
        foreach (Warp warp in _warps) _clock = Math.Max(_clock, warp.Clock + 1);
        _clock = Math.Max(_clock, Engine.Clock + 1);
        if (_clock > LateClock)
        {
            _clock = 1;
            Shared.ForgetClocks();
        }

        Shared.Reset();
        Arrivals.Clear();
        Engine.Reset(_clock);
        foreach (NamedBarrier barrier in _barriers) barrier.Reset();
        for (int w = 0; w < _warps.Length; w++) _warps[w].Begin(_clock, Launch.Threads - (w * Lanes.Count));
        _random = new(unchecked((Launch.Order.Seed * 7919) + number));
        _order = Launch.Order.Of(_warps.Length, _random);
    }

    /// <summary>Runs until all warps have ended, or have had so many instructions together.</summary>
    /// <exception cref="CudaEmulationException">The kernel did what no kernel may, or none of its warps can go on.</exception>
    public void Run(long most)
    {
        long end = Executed + most;
        while (!HasEnded && Executed < end)
        {
            bool hasRun = false;
            long events = Events;
            if (Launch.Order.Kind == OrderKind.Shuffled) _random.Shuffle(_order);
            foreach (int w in _order)
            {
                Warp warp = _warps[w];
                if (warp.State is WarpState.Ended or WarpState.AtBarrier) continue;
                hasRun |= warp.Run(Math.Min(Launch.Order.Turn(_random), Math.Max(1, end - Executed))) != WarpState.Polling;
            }

            EndLoads(isLate: !hasRun);
            if (!hasRun && events == Events && !HasEnded) throw new CudaEmulationException($"{Launch.Program.Label}: no warp of block {Index} can go on. {this}.");
        }
    }

    public Warp WarpAt(int number) => _warps[number];

    /// <summary>The barrier in shared memory at an address.</summary>
    public ArrivalBarrier ArrivalsAt(Warp warp, Instruction* i, int lane, uint address) =>
        Arrivals.TryGetValue(address, out ArrivalBarrier? barrier) ? barrier : throw warp.Fail(i, lane, $"names a barrier at 0x{address:x} of shared memory, where there is none");

    public NamedBarrier Barrier(int number) => _barriers[number];

    public override string ToString() => string.Join("; ", [.. _warps.Select(static warp => warp.ToString()), .. Arrivals.Select(static barrier => $"barrier 0x{barrier.Key:x}: {barrier.Value}")]);

    /// <summary>Copies end when nothing else can go on, as soon as they may, or at random, by the order of the launch.</summary>
    private void EndLoads(bool isLate)
    {
        while (Engine.HasWork)
        {
            bool ends = Launch.Order.Kind switch { OrderKind.Forward => isLate, OrderKind.Reverse => true, _ => isLate || _random.Next(3) == 0 };
            if (!ends) return;
            Engine.EndOne(Launch.Order.Kind == OrderKind.Shuffled ? _random : null);
            isLate = false;
        }
    }

    public void Dispose()
    {
        Shared.Dispose();
        foreach (Warp warp in _warps) warp.Dispose();
    }
}
