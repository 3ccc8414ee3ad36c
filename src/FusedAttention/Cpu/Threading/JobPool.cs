namespace FusedAttention.Cpu.Threading;

/// <summary>Jobs of calls that have ended, for the next ones: what they have grown to is kept, so that calls allocate nothing in steady state.</summary>
internal sealed class JobPool<TJob>(Func<TJob> make)
    where TJob : ParallelJob
{
    private readonly TJob?[] _idle = new TJob?[Math.Max(4, 2 * Environment.ProcessorCount)];
    private readonly Lock _gate = new();
    private int _count;

    public TJob Rent()
    {
        lock (_gate)
        {
            if (_count > 0) return _idle[--_count]!;
        }

        return make();
    }

    public void Return(TJob job)
    {
        lock (_gate)
        {
            if (_count < _idle.Length) _idle[_count++] = job;
        }
    }
}
