using FusedAttention.Cpu.Threading;
using Xunit;

namespace FusedAttention.Tests.Cpu.Threading;

public sealed class WorkerPoolStressTests
{
    [Theory]
    [InlineData(1, 3)]
    [InlineData(3, 2)]
    [InlineData(7, 12)]
    public void Short_jobs_from_many_threads(int workers, int callers)
    {
        var pool = new WorkerPool(workers);
        RunCallers(callers, caller =>
        {
            var random = new Random(caller);
            for (int round = 0; round < 300; round++)
            {
                int items = random.Next(0, 40);
                int maxParallelism = random.Next(3) == 0 ? -1 : random.Next(1, 10);
                var job = new CountingJob(items, pool.Participants(items, maxParallelism)) { Spin = random.Next(60) };
                int times = random.Next(1, 4);
                for (int time = 0; time < times; time++) pool.Run(job, items, maxParallelism, CancellationToken.None);
                job.AssertEachRan(times);
            }
        });
    }

    [Fact]
    public void Failing_cancelled_and_nested_jobs_from_many_threads()
    {
        var pool = new WorkerPool(workers: 5);
        RunCallers(8, caller =>
        {
            using var cancelled = new CancellationTokenSource();
            cancelled.Cancel();
            int leaves = 0;
            int failAt = -1;
            var nested = new DelegateJob((_, _) =>
            {
                var inner = new DelegateJob((_, _) => Interlocked.Increment(ref leaves));
                pool.Run(inner, 3, -1, CancellationToken.None);
            });
            var failing = new DelegateJob((item, _) =>
            {
                if (item == failAt) throw new InvalidDataException($"{caller}: {item}");
                Interlocked.Increment(ref leaves);
            });
            for (int round = 0; round < 200; round++)
            {
                leaves = 0;
                pool.Run(nested, 4, -1, CancellationToken.None);
                Assert.Equal(12, leaves);

                failAt = round % 16;
                var exception = Assert.Throws<InvalidDataException>(() => pool.Run(failing, 16, -1, CancellationToken.None));
                Assert.Equal($"{caller}: {failAt}", exception.Message);

                failAt = -1;
                leaves = 0;
                Assert.Throws<OperationCanceledException>(() => pool.Run(failing, 16, -1, cancelled.Token));
                Assert.Equal(0, leaves);
                pool.Run(failing, 16, -1, CancellationToken.None);
                Assert.Equal(16, leaves);
            }
        });
    }

    [Fact]
    public void Workers_leave_when_callers_fill_the_processors()
    {
        const int Processors = 4;
        var pool = new WorkerPool(Processors - 1);
        int callersIn = 0;
        int workersItemsBefore = 0;
        int workersItemsInCrowd = 0;
        int itemsInCrowd = 0;
        RunCallers(Processors, caller =>
        {
            bool isFirst = true;
            var job = new DelegateJob((_, slot) =>
            {
                if (slot == 0 && isFirst)
                {
                    isFirst = false;
                    Interlocked.Increment(ref callersIn);
                    while (Volatile.Read(ref callersIn) < Processors) Thread.Sleep(1);
                }

                if (Volatile.Read(ref callersIn) < Processors)
                {
                    Interlocked.Increment(ref workersItemsBefore);
                    Thread.Sleep(1);
                }
                else if (Interlocked.Increment(ref itemsInCrowd) <= 2000)
                {
                    if (slot != 0) Interlocked.Increment(ref workersItemsInCrowd);
                    Thread.SpinWait(100);
                }
            });

            // Caller 0 has the workers to itself for a while. The crowd's 2000 items end before any call of so many can.
            while (caller != 0 && Volatile.Read(ref workersItemsBefore) < 50) Thread.Sleep(1);
            pool.Run(job, 20_000, -1, CancellationToken.None);
        });
        Assert.InRange(workersItemsBefore, 50, 10_000);

        // A worker may have looked just before the last caller came, and then started one item.
        Assert.InRange(workersItemsInCrowd, 0, Processors - 1);
    }

    [Fact]
    public void Never_more_threads_in_items_than_processors_when_one_calls()
    {
        var pool = new WorkerPool(workers: 3);
        int inside = 0;
        int most = 0;
        Lock gate = new();
        var job = new DelegateJob((_, _) =>
        {
            lock (gate) most = Math.Max(most, ++inside);
            Thread.SpinWait(300);
            lock (gate) inside--;
        });
        for (int run = 0; run < 50; run++) pool.Run(job, 50, -1, CancellationToken.None);
        Assert.InRange(most, 2, 4);
    }

    [Fact]
    public void A_call_that_outlives_the_others_gets_their_processors()
    {
        var pool = new WorkerPool(workers: 1);
        int callersIn = 0;
        bool shortCallEnded = false;
        int helped = 0;
        RunCallers(2, caller =>
        {
            bool isShort = caller == 0;
            int started = 0;
            var job = new DelegateJob((_, slot) =>
            {
                if (Interlocked.Increment(ref started) == 1) // on whichever thread: a worker may take all items of the short call
                {
                    Interlocked.Increment(ref callersIn);
                    while (Volatile.Read(ref callersIn) < 2) Thread.Sleep(1);
                }

                if (!isShort && Volatile.Read(ref shortCallEnded) && slot != 0) Interlocked.Increment(ref helped);
                if (!isShort && Volatile.Read(ref helped) == 0) Thread.Sleep(1);
            });
            pool.Run(job, isShort ? 2 : 5000, -1, CancellationToken.None);
            if (isShort) Volatile.Write(ref shortCallEnded, true);
        });
        Assert.True(helped > 0, "No worker joined the long call after the short one.");
    }

    private static void RunCallers(int callers, Action<int> body)
    {
        var failures = new Exception?[callers];
        Thread[] threads = [.. Enumerable.Range(0, callers).Select(caller => new Thread(() =>
        {
            try
            {
                body(caller);
            }
            catch (Exception exception)
            {
                failures[caller] = exception;
            }
        }) { Name = $"caller {caller}", IsBackground = true })];
        foreach (Thread thread in threads) thread.Start();
        foreach (Thread thread in threads) Assert.True(thread.Join(TimeSpan.FromSeconds(8)), "A caller hangs.");
        Assert.All(failures, Assert.Null);
    }
}
