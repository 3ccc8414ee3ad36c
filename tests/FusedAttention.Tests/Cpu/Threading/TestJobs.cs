using FusedAttention.Cpu.Threading;
using Xunit;

namespace FusedAttention.Tests.Cpu.Threading;

/// <summary>Counts every item and notes when two threads hold one slot at once.</summary>
internal sealed class CountingJob(int items, int slots) : ParallelJob
{
    private readonly int[] _runs = new int[items];
    private readonly int[] _slotUsers = new int[slots];
    private int _slotClashes;

    public int Spin { get; init; }

    protected override void RunItem(int item, int worker)
    {
        if (Interlocked.Increment(ref _slotUsers[worker]) != 1) Interlocked.Increment(ref _slotClashes);
        Interlocked.Increment(ref _runs[item]);
        Thread.SpinWait(Spin);
        Interlocked.Decrement(ref _slotUsers[worker]);
    }

    public void AssertEachRan(int times)
    {
        Assert.Equal(0, _slotClashes);
        for (int i = 0; i < _runs.Length; i++)
        {
            if (_runs[i] != times) Assert.Fail($"Item {i} of {_runs.Length} ran {_runs[i]} times instead of {times}.");
        }
    }
}

/// <summary>Runs a delegate an item.</summary>
internal sealed class DelegateJob(Action<int, int> runItem) : ParallelJob
{
    protected override void RunItem(int item, int worker) => runItem(item, worker);
}
