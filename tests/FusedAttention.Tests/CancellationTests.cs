using Xunit;

namespace FusedAttention.Tests;

/// <summary>A cancelled call throws, soon, and leaves the library as it was.</summary>
[Collection(AloneDefinition.Name)]
public sealed class CancellationTests
{
    [Theory]
    [InlineData(1)]
    [InlineData(-1)]
    public void A_token_cancelled_before_the_call_stops_it(int threads)
    {
        var token = new CancellationToken(canceled: true);
        var error = Assert.ThrowsAny<OperationCanceledException>(() => Run(128, threads, token));
        Assert.Equal(token, error.CancellationToken);
        AssertUsable();
    }

    [Theory]
    [InlineData(1)]
    [InlineData(-1)]
    public void A_token_cancelled_during_the_call_stops_it(int threads)
    {
        // 2 heads x 16384 x 16384 x 64 is 140 GFLOP: seconds on a few cores, and tens of milliseconds on the largest machines.
        using var source = new CancellationTokenSource(TimeSpan.FromMilliseconds(8));
        long started = Environment.TickCount64;
        var error = Assert.ThrowsAny<OperationCanceledException>(() => Run(16384, threads, source.Token));
        long elapsed = Environment.TickCount64 - started;
        Assert.Equal(source.Token, error.CancellationToken);
        Assert.True(elapsed < 5000, $"The call ended {elapsed} ms after it began, though it was cancelled after 8 ms.");
        AssertUsable();
    }

    [Fact]
    public void A_token_that_is_never_cancelled_changes_nothing()
    {
        using var source = new CancellationTokenSource();
        Problem problem = new ProblemGenerator(70_000).NextProblem();
        CallResult expected = Caller.Run(problem);
        Caller.Run(problem, cancellationToken: source.Token).AssertSameBits(expected, "with a token");
    }

    [Fact]
    public void One_cancelled_caller_does_not_stop_another()
    {
        Problem problem = new ProblemGenerator(70_001).NextProblem();
        CallResult expected = Caller.Run(problem);
        BackgroundThread cancelled = BackgroundThread.Start(() =>
        {
            for (int n = 0; n < 10; n++)
            {
                using var source = new CancellationTokenSource(TimeSpan.FromMilliseconds(3));
                Assert.ThrowsAny<OperationCanceledException>(() => Run(8192, -1, source.Token));
            }
        });
        while (cancelled.IsAlive) Caller.Run(problem).AssertSameBits(expected, "beside a cancelled caller");
        cancelled.Join();
    }

    private static void Run(int tokens, int threads, CancellationToken cancellationToken)
    {
        const int heads = 2;
        const int dim = 64;
        var numbers = new float[tokens * heads * dim];
        var output = new float[tokens * heads * dim];
        Attention.Forward<float, float>(
            numbers, numbers, numbers, output, new AttentionShape(1, tokens, tokens, heads, heads, dim), execution: new() { MaxDegreeOfParallelism = threads }, cancellationToken: cancellationToken);
    }

    private static void AssertUsable()
    {
        Problem problem = new ProblemGenerator(70_002).NextProblem();
        Caller.Run(problem).AssertClose(problem, CpuLimits.Of(problem));
    }
}
