using FusedAttention.Cpu.Threading;
using Xunit;

namespace FusedAttention.Tests.Cpu.Threading;

/// <summary>Counts the allocations of all threads of the process, so nothing else may run beside it.</summary>
[CollectionDefinition(nameof(WorkerPoolAllocationTests), DisableParallelization = true)]
[Collection(nameof(WorkerPoolAllocationTests))]
public sealed class WorkerPoolAllocationTests
{
    [Theory]
    [InlineData(0)]
    [InlineData(200)]
    public void No_thread_allocates_in_steady_state(int pauseMicroseconds)
    {
        var pool = new WorkerPool(workers: 3);
        var job = new CountingJob(items: 16, slots: 4) { Spin = 100 };
        using var source = new CancellationTokenSource();
        long least = long.MaxValue;
        int runs = 0;

        // The first round starts threads and compiles; a later one may catch an allocation of the test host, which has threads of its own.
        for (int round = 0; round < 10 && least > 0; round++)
        {
            long before = GC.GetTotalAllocatedBytes(precise: true);
            for (int run = 0; run < 300; run++)
            {
                pool.Run(job, 16, -1, source.Token);
                runs++;
                if (pauseMicroseconds > 0) Thread.Sleep(TimeSpan.FromMicroseconds(pauseMicroseconds)); // long enough for the workers to park
            }

            least = Math.Min(least, GC.GetTotalAllocatedBytes(precise: true) - before);
        }

        Assert.Equal(0, least);
        job.AssertEachRan(runs);
    }
}
