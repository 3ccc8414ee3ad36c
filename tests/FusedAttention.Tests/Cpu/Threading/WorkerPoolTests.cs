using System.Collections.Concurrent;
using FusedAttention.Cpu.Threading;
using Xunit;

namespace FusedAttention.Tests.Cpu.Threading;

public sealed class WorkerPoolTests
{
    // More workers than this machine may have processors, so that threads really meet.
    private static readonly WorkerPool Pool = new(workers: 7);

    private static CancellationToken Token => TestContext.Current.CancellationToken;

    [Theory]
    [InlineData(0, -1)]
    [InlineData(1, -1)]
    [InlineData(2, -1)]
    [InlineData(7, 2)]
    [InlineData(8, -1)]
    [InlineData(1000, 1)]
    [InlineData(1000, 3)]
    [InlineData(1000, 100)]
    public void Every_item_runs_once_with_slots_below_the_announced_number(int items, int maxParallelism)
    {
        int slots = Pool.Participants(items, maxParallelism);
        Assert.InRange(slots, 1, 8);
        var job = new CountingJob(items, slots) { Spin = 50 };
        for (int run = 1; run <= 20; run++)
        {
            Pool.Run(job, items, maxParallelism, Token);
            job.AssertEachRan(times: run);
        }
    }

    [Fact]
    public void All_workers_join_a_long_job_and_the_caller_has_slot_0()
    {
        var names = new ConcurrentDictionary<int, string>();
        using var everyone = new Barrier(8);
        int caller = Environment.CurrentManagedThreadId;
        int callersSlot = -1;
        var job = new DelegateJob((_, slot) =>
        {
            if (Environment.CurrentManagedThreadId == caller) callersSlot = slot;
            else names[slot] = $"{Thread.CurrentThread.Name}, background {Thread.CurrentThread.IsBackground}, pool {Thread.CurrentThread.IsThreadPoolThread}";
            Assert.True(everyone.SignalAndWait(TimeSpan.FromSeconds(20), Token), "Fewer threads than expected came.");
        });
        Pool.Run(job, items: 8, maxParallelism: -1, Token);
        Assert.Equal(0, callersSlot);
        Assert.Equal([1, 2, 3, 4, 5, 6, 7], names.Keys.Order().ToArray());
        string[] expected = [.. Enumerable.Range(1, 7).Select(n => $"FusedAttention worker {n}, background True, pool False")];
        Assert.Equal(expected, names.Values.Order(StringComparer.Ordinal).ToArray());
    }

    [Theory]
    [InlineData(1)]
    [InlineData(-1)]
    public void Each_thread_meets_ascending_items(int maxParallelism)
    {
        int[] last = [-1, -1, -1, -1, -1, -1, -1, -1];
        bool ascending = true;
        var job = new DelegateJob((item, slot) =>
        {
            if (item <= last[slot]) ascending = false;
            last[slot] = item;
            Thread.SpinWait(20);
        });
        Pool.Run(job, 2000, maxParallelism, Token);
        Assert.True(ascending);
        Assert.Equal(1999, last.Max());
    }

    [Fact]
    public void One_item_or_one_thread_runs_on_the_caller()
    {
        int caller = Environment.CurrentManagedThreadId;
        var job = new DelegateJob((_, slot) =>
        {
            Assert.Equal(caller, Environment.CurrentManagedThreadId);
            Assert.Equal(0, slot);
        });
        Pool.Run(job, items: 1, maxParallelism: -1, Token);
        Pool.Run(job, items: 50, maxParallelism: 1, Token);
        new WorkerPool(workers: 0).Run(job, items: 50, maxParallelism: -1, Token);
    }

    [Fact]
    public void The_pool_of_the_process_has_one_thread_a_processor()
    {
        Assert.Equal(Environment.ProcessorCount, WorkerPool.Shared.Participants(int.MaxValue, -1));
        Assert.Equal(1, WorkerPool.Shared.Participants(0, -1));
    }

    [Fact]
    public void The_first_exception_comes_out_when_all_have_left_and_the_job_runs_again()
    {
        int inside = 0;
        int started = 0;
        bool fail = true;
        var job = new DelegateJob((item, _) =>
        {
            Interlocked.Increment(ref inside);
            Interlocked.Increment(ref started);
            Thread.SpinWait(2000);
            Interlocked.Decrement(ref inside);
            if (fail && item >= 20) throw new InvalidDataException($"item {item}");
        });
        for (int run = 0; run < 50; run++)
        {
            started = 0;
            var exception = Assert.Throws<InvalidDataException>(() => Pool.Run(job, 10_000, -1, Token));
            Assert.StartsWith("item 2", exception.Message, StringComparison.Ordinal);
            Assert.Equal(0, Volatile.Read(ref inside));
            Assert.InRange(started, 21, 20 + 8); // a thread that threw starts nothing more
        }

        fail = false;
        started = 0;
        Pool.Run(job, 100, -1, Token);
        Assert.Equal(100, started);
    }

    [Theory]
    [InlineData(1)]
    [InlineData(-1)]
    public void Cancellation_stops_between_items_and_the_job_runs_again(int maxParallelism)
    {
        using var source = new CancellationTokenSource();
        int inside = 0;
        int started = 0;
        var job = new DelegateJob((item, _) =>
        {
            Interlocked.Increment(ref inside);
            Interlocked.Increment(ref started);
            if (item == 30) source.Cancel();
            Thread.SpinWait(200);
            Interlocked.Decrement(ref inside);
        });
        var exception = Assert.Throws<OperationCanceledException>(() => Pool.Run(job, 10_000, maxParallelism, source.Token));
        Assert.Equal(source.Token, exception.CancellationToken);
        Assert.Equal(0, inside);
        Assert.InRange(started, 31, 9_999);

        started = 0;
        Assert.Throws<OperationCanceledException>(() => Pool.Run(job, 10_000, maxParallelism, source.Token));
        Assert.Equal(0, started);

        Pool.Run(job, 100, maxParallelism, Token);
        Assert.Equal(100, started);
    }

    [Fact]
    public void A_token_cancelled_after_the_last_item_has_started_does_not_undo_it()
    {
        using var source = new CancellationTokenSource();
        int done = 0;
        var job = new DelegateJob((item, _) =>
        {
            if (item == 1) source.Cancel();
            else SpinWait.SpinUntil(() => source.IsCancellationRequested, 5000);
            Interlocked.Increment(ref done);
        });
        new WorkerPool(workers: 1).Run(job, 2, -1, source.Token);
        Assert.Equal(2, done);
    }

    [Fact]
    public void A_job_cannot_run_inside_itself()
    {
        ParallelJob? self = null;
        var job = new DelegateJob((_, _) => Pool.Run(self!, 2, -1, CancellationToken.None));
        self = job;
        Assert.Throws<InvalidOperationException>(() => Pool.Run(job, 2, -1, Token));
        Assert.Throws<InvalidOperationException>(() => Pool.Run(job, 2, -1, Token));
    }

    [Fact]
    public void Calls_inside_items_run_to_the_end()
    {
        int leaves = 0;
        var outer = new DelegateJob((_, _) =>
        {
            var middle = new DelegateJob((_, _) =>
            {
                var inner = new DelegateJob((_, _) => Interlocked.Increment(ref leaves));
                Pool.Run(inner, 5, -1, CancellationToken.None);
            });
            Pool.Run(middle, 6, -1, CancellationToken.None);
        });
        for (int run = 0; run < 20; run++) Pool.Run(outer, 7, -1, Token);
        Assert.Equal(20 * 5 * 6 * 7, leaves);
    }

    [Fact]
    public void A_call_inside_an_item_does_not_count_its_thread_twice()
    {
        // Two processors, of which the caller has one: the worker can help inside only if the pool knows that.
        var pool = new WorkerPool(workers: 1);
        using var both = new Barrier(2);
        var inner = new DelegateJob((_, _) => Assert.True(both.SignalAndWait(TimeSpan.FromSeconds(5), Token), "No worker came."));
        bool callerIsInside = false;
        var outer = new DelegateJob((_, slot) =>
        {
            if (slot == 0)
            {
                Volatile.Write(ref callerIsInside, true);
                pool.Run(inner, 2, -1, CancellationToken.None);
            }
            else
            {
                while (!Volatile.Read(ref callerIsInside)) Thread.Sleep(1); // or the worker would take both items
            }
        });
        pool.Run(outer, 2, -1, Token);
        Assert.True(callerIsInside);
    }

    [Fact]
    public void An_interrupt_waits_until_the_job_is_done()
    {
        bool helperStarted = false;
        bool helperDone = false;
        bool helperDoneAtReturn = false;
        bool interrupted = false;
        Thread? caller = null;
        var job = new DelegateJob((_, _) =>
        {
            if (Thread.CurrentThread == caller)
            {
                while (!Volatile.Read(ref helperStarted)) Thread.SpinWait(10);
                return;
            }

            Volatile.Write(ref helperStarted, true);
            Thread.Sleep(200);
            Volatile.Write(ref helperDone, true);
        });
        caller = new Thread(() =>
        {
            Pool.Run(job, 2, -1, CancellationToken.None);
            helperDoneAtReturn = Volatile.Read(ref helperDone);
            try
            {
                Thread.Sleep(1);
            }
            catch (ThreadInterruptedException)
            {
                interrupted = true;
            }
        });
        caller.Start();
        while (!Volatile.Read(ref helperStarted)) Thread.Sleep(1);
        Thread.Sleep(50); // by now the caller is parked
        caller.Interrupt();
        Assert.True(caller.Join(TimeSpan.FromSeconds(20)));
        Assert.True(helperDoneAtReturn);
        Assert.True(interrupted);
    }
}
