using FusedAttention.Cuda.Emulation.Memory;

namespace FusedAttention.Cuda.Emulation.Machine;

/// <summary>One of a block's barriers: warps arrive, and those who wait go on when as many threads have come as were named.</summary>
internal sealed class NamedBarrier(int number)
{
    private readonly List<Warp> _waiting = [];
    private readonly uint[] _clocks = new uint[SharedMemory.MostAgents];

    public int Number { get; } = number;

    /// <summary>Threads that have come.</summary>
    public int Arrived { get; private set; }

    /// <summary>Threads that are to come, as those who did have named them; 0 where nobody is there.</summary>
    public int Expected { get; private set; }

    /// <summary>What has been gathered of the predicates of those who came: any, all, and how many lanes.</summary>
    public bool Any { get; private set; }

    public bool All { get; private set; }

    public int Holding { get; private set; }

    public void Reset()
    {
        _waiting.Clear();
        (Arrived, Expected) = (0, 0);
    }

    /// <summary>A warp comes.</summary>
    /// <param name="warp">The warp.</param>
    /// <param name="threads">How many threads are to come.</param>
    /// <param name="waits">Whether it waits for the others.</param>
    /// <param name="holds">The lanes in which its predicate holds.</param>
    /// <returns>What is wrong with that; null where nothing is.</returns>
    public string? Arrive(Warp warp, int threads, bool waits, uint holds)
    {
        if (Expected == 0) (Expected, Any, All, Holding) = (threads, false, true, 0);
        if (Expected != threads) return $"waits for {threads} threads at barrier {Number}, and others there wait for {Expected}";
        Any |= holds != 0;
        All &= holds == warp.Live;
        Holding += System.Numerics.BitOperations.PopCount(holds);
        Arrived += Lanes.Count;
        warp.Block.Events++;
        warp.Release(_clocks);
        if (waits)
        {
            _waiting.Add(warp);
            warp.WaitAt(Number);
        }

        if (Arrived < Expected) return null;
        foreach (Warp waiting in _waiting)
        {
            waiting.Acquire(_clocks);
            waiting.Continue(this);
        }

        Reset();
        return null;
    }
}
