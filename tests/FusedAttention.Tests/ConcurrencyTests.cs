using Xunit;

namespace FusedAttention.Tests;

/// <summary>Any number of threads may call at once.</summary>
public sealed class ConcurrencyTests
{
    [Slow]
    [Fact]
    public void Many_callers_with_different_shapes_get_the_bits_of_a_single_caller()
    {
        const int callers = 8;
        Problem[] problems = [.. Enumerable.Range(60_000, 48).Select(seed => new ProblemGenerator(seed, isLarge: seed % 4 == 0).NextProblem())];
        CallResult[] expected = [.. problems.Select(problem => Caller.Run(problem with { Execution = problem.Execution with { MaxDegreeOfParallelism = 1 } }))];
        using var start = new Barrier(callers);
        BackgroundThread[] threads = [.. Enumerable.Range(0, callers).Select(caller => BackgroundThread.Start(() =>
        {
            start.SignalAndWait();
            for (int n = 0; n < problems.Length; n++)
            {
                int i = (n + (caller * 5)) % problems.Length;
                Caller.Run(problems[i]).AssertSameBits(expected[i], $"caller {caller}, {problems[i]}");
            }
        }))];
        foreach (BackgroundThread thread in threads) thread.Join();
    }

    [Fact]
    public async Task Callers_on_the_thread_pool_do_not_starve_each_other()
    {
        Problem problem = new ProblemGenerator(60_100).NextProblem();
        CallResult expected = Caller.Run(problem);
        Task[] tasks = [.. Enumerable.Range(0, 64).Select(n => Task.Run(() => Caller.Run(problem).AssertSameBits(expected, $"task {n}")))];
        await Task.WhenAll(tasks).WaitAsync(TimeSpan.FromMinutes(2), TestContext.Current.CancellationToken);
    }

    [Fact]
    public void A_refused_call_does_not_disturb_others()
    {
        Problem problem = new ProblemGenerator(60_101).NextProblem();
        CallResult expected = Caller.Run(problem);
        using var stop = new CancellationTokenSource();
        BackgroundThread refused = BackgroundThread.Start(() =>
        {
            while (!stop.IsCancellationRequested)
            {
                Assert.Throws<ArgumentException>(() => Attention.Forward<float, float>([], [], [], [], new AttentionShape(1, 1, 1, 3, 2, 8)));
            }
        });
        for (int n = 0; n < 50; n++) Caller.Run(problem).AssertSameBits(expected, $"call {n}");
        stop.Cancel();
        refused.Join();
    }
}
