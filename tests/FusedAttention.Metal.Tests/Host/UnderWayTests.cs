using FusedAttention.Devices;
using FusedAttention.Metal.Launching;
using FusedAttention.Metal.ObjectiveC;
using Xunit;

namespace FusedAttention.Metal.Tests.Host;

/// <summary>Many submissions, slow ones, many threads, and memory that goes while the GPU works.</summary>
[Collection(FakeMetal.Collection)]
public sealed class UnderWayTests
{
    private static readonly KernelFunction Attend = FakeMetal.Function("attend");

    [Fact]
    public void Only_so_many_are_under_way_at_once()
    {
        using var fake = new FakeMetal();
        fake.Completion = Completion.WhenTold;
        using MetalRuntime runtime = FakeMetal.Runtime();
        for (int i = 0; i < MetalRuntime.MaxUnderWay; i++) runtime.Submit([FakeMetal.Launch(Attend)]);
        Assert.Equal(0, runtime.Completed);

        long last = 0;
        var thread = BackgroundThread.Start(() => last = runtime.Submit([FakeMetal.Launch(Attend)]));
        Assert.True(
            SpinWait.SpinUntil(() => fake.Log.Contains("MTLCommandBuffer#1 waitUntilCompleted", StringComparer.Ordinal), TimeSpan.FromSeconds(20)), "The call beyond the limit did not wait.");
        Thread.Sleep(20);
        Assert.True(thread.IsAlive, "The call beyond the limit did not wait.");
        fake.Finish(left: MetalRuntime.MaxUnderWay - 1);
        thread.Join();
        Assert.Equal(MetalRuntime.MaxUnderWay + 1, last);
        Assert.Equal(MetalRuntime.MaxUnderWay, fake.MostUnderWay);
        Assert.Equal(1, runtime.Completed);
        fake.Finish();
        Assert.Equal(MetalRuntime.MaxUnderWay + 1, runtime.Completed);
    }

    [Fact]
    public void Waiting_does_not_keep_others_from_submitting()
    {
        using var fake = new FakeMetal();
        fake.Completion = Completion.WhenTold;
        using MetalRuntime runtime = FakeMetal.Runtime();
        runtime.Submit([FakeMetal.Launch(Attend)]);
        var waiting = BackgroundThread.Start(() => runtime.Wait(1));
        var alsoWaiting = BackgroundThread.Start(() => runtime.Wait(1));
        Assert.True(SpinWait.SpinUntil(() => fake.Log.Count(static line => line is "MTLCommandBuffer#1 waitUntilCompleted") == 2, TimeSpan.FromSeconds(20)));
        Assert.Equal(2, runtime.Submit([FakeMetal.Launch(Attend)]));
        Assert.Equal(0, runtime.Completed);
        fake.Finish(left: 1);
        waiting.Join();
        alsoWaiting.Join();
        Assert.Equal(1, runtime.Completed);
        fake.Finish();
    }

    [Fact]
    public void Threads_submit_and_wait_side_by_side()
    {
        using var fake = new FakeMetal();
        fake.Completion = Completion.WhenWaitedFor;
        using (MetalRuntime runtime = FakeMetal.Runtime())
        {
            const int Threads = 6, Rounds = 40;
            BackgroundThread[] threads = [.. Enumerable.Range(0, Threads).Select(thread => BackgroundThread.Start(() =>
            {
                for (int round = 0; round < Rounds; round++)
                {
                    using DeviceMemory memory = runtime.Allocate(64 + thread);
                    KernelFunction function = Attend with { Definitions = [new("HEAD_DIM", (round % 5).ToString())] };
                    long number = runtime.Submit([FakeMetal.Launch(function, new BufferBinding(0, memory, 0, IsWritten: true))]);
                    if (round % 3 == 0) runtime.Wait(number);
                    Assert.True(runtime.Completed <= Threads * Rounds);
                }
            }))];
            foreach (BackgroundThread thread in threads) thread.Join();
            runtime.Wait(Threads * Rounds);
            Assert.Equal(Threads * Rounds, runtime.Completed);
            Assert.Equal(5, fake.Log.Count(static line => line.Contains(" newLibrary ", StringComparison.Ordinal)));
            Assert.True(fake.MostUnderWay <= MetalRuntime.MaxUnderWay);
        }
    }

    [Fact]
    public void A_runtime_that_is_disposed_waits_for_its_work()
    {
        using var fake = new FakeMetal();
        fake.Completion = Completion.WhenWaitedFor;
        MetalRuntime runtime = FakeMetal.Runtime();
        DeviceMemory memory = runtime.Allocate(64);
        for (int i = 0; i < 3; i++) runtime.Submit([FakeMetal.Launch(Attend, new BufferBinding(0, memory, 0, IsWritten: true))]);
        memory.Dispose();
        fake.Take();
        runtime.Dispose();
        runtime.Dispose();
        Assert.Equal(3, fake.Take().Count(static line => line.EndsWith(" ends well", StringComparison.Ordinal)));
        fake.AssertNothingLives();
        Assert.Throws<ObjectDisposedException>(() => runtime.Submit([FakeMetal.Launch(Attend)]));
        Assert.Throws<ObjectDisposedException>(() => runtime.Allocate(64));
        Assert.Throws<ObjectDisposedException>(() => runtime.Prepare(Attend));
        Assert.Equal(3, runtime.Completed);
    }

    [Fact]
    public void Memory_that_was_disposed_is_refused_before_the_first_message()
    {
        using var fake = new FakeMetal();
        using MetalRuntime runtime = FakeMetal.Runtime();
        DeviceMemory memory = runtime.Allocate(64);
        KernelLaunch launch = FakeMetal.Launch(Attend, new BufferBinding(0, memory, 0, IsWritten: true));
        runtime.Submit([launch]);
        memory.Dispose();
        fake.Take();
        Assert.Throws<ObjectDisposedException>(() => runtime.Submit([FakeMetal.Launch(Attend), launch]));
        Assert.Empty(fake.Take());
    }

    [Fact]
    public void An_open_submission_is_one_command_buffer_that_grows()
    {
        using var fake = new FakeMetal();
        fake.Completion = Completion.WhenTold;
        using MetalRuntime runtime = FakeMetal.Runtime();
        runtime.Prepare(Attend);
        fake.Take();
        Assert.Equal(1, runtime.Submit([FakeMetal.Launch(Attend)], staysOpen: true));
        Assert.Equal(1, runtime.Submit([FakeMetal.Launch(Attend), FakeMetal.Launch(Attend)], staysOpen: true));
        string[] sent = fake.Take();
        Assert.Equal(["MTLCommandQueue#1 commandBuffer -> MTLCommandBuffer#1", "MTLCommandBuffer#1 computeCommandEncoder -> MTLComputeCommandEncoder#1"], sent[..2]);
        Assert.Equal(3, sent.Count(static line => line.Contains(" dispatch ", StringComparison.Ordinal)));
        Assert.DoesNotContain(sent, static line => line.Contains("endEncoding", StringComparison.Ordinal));

        // What is not committed cannot be waited for, and what is refused leaves it as it is.
        Assert.Throws<ArgumentOutOfRangeException>(() => runtime.Wait(1));
        Assert.Throws<MetalException>(() => runtime.Submit([FakeMetal.Launch(Attend) with { ThreadsPerThreadgroup = new(2048, 1, 1) }], staysOpen: true));
        Assert.Empty(fake.Take());
        runtime.Commit();
        runtime.Commit();
        Assert.Equal(["MTLComputeCommandEncoder#1 endEncoding", "MTLCommandBuffer#1 commit"], fake.Take());

        // One that is closed takes along what is open.
        Assert.Equal(2, runtime.Submit([FakeMetal.Launch(Attend)], staysOpen: true));
        Assert.Equal(2, runtime.Submit([FakeMetal.Launch(Attend)]));
        Assert.Single(fake.Take(), static line => line.EndsWith(" commit", StringComparison.Ordinal));
        Assert.Equal(3, runtime.Submit([FakeMetal.Launch(Attend)]));
        fake.Finish();
        runtime.Wait(3);

        // A runtime that is disposed commits: an encoder that is let go unended ends the process.
        fake.Completion = Completion.WhenWaitedFor;
        runtime.Submit([FakeMetal.Launch(Attend)], staysOpen: true);
    }

    [Fact]
    public void An_encoder_is_told_what_is_different()
    {
        using var fake = new FakeMetal();
        using MetalRuntime runtime = FakeMetal.Runtime();
        using DeviceMemory a = runtime.Allocate(1024), b = runtime.Allocate(1024);
        KernelFunction merge = FakeMetal.Function("merge");
        runtime.Prepare(Attend);
        runtime.Prepare(merge);
        fake.Take();
        runtime.Submit([FakeMetal.Launch(Attend, new(0, a, 0, false), new(1, a, 0, false), new(2, b, 4, true))], staysOpen: true);
        fake.Take();
        runtime.Submit([FakeMetal.Launch(Attend, new(0, a, 0, false), new(1, b, 0, false), new(2, b, 8, true))], staysOpen: true);
        Assert.Equal(
            [
                "MTLComputeCommandEncoder#1 setBuffer 1: MTLBuffer#2 + 0",
                "MTLComputeCommandEncoder#1 setBufferOffset 2: + 8",
                "MTLComputeCommandEncoder#1 setBytes 14: 0102feff",
                "MTLComputeCommandEncoder#1 dispatch 3 x 2 x 1 of 32 x 4 x 1",
            ],
            fake.Take());
        runtime.Submit([FakeMetal.Launch(merge, new(0, a, 0, false), new(2, b, 8, true))]);
        Assert.Equal("MTLComputeCommandEncoder#1 setComputePipelineState MTLComputePipelineState#2", fake.Take()[0]);

        // The next one's encoder knows nothing.
        runtime.Submit([FakeMetal.Launch(merge, new(0, a, 0, false), new(2, b, 8, true))]);
        string[] sent = fake.Take();
        Assert.Contains("MTLComputeCommandEncoder#2 setBuffer 2: MTLBuffer#2 + 8", sent, StringComparer.Ordinal);
        Assert.Contains("MTLComputeCommandEncoder#2 setComputePipelineState MTLComputePipelineState#2", sent, StringComparer.Ordinal);
    }

    [Theory]
    [InlineData("commandBuffer")]
    [InlineData("computeCommandEncoder")]
    public void A_submission_that_cannot_be_opened_takes_no_number(string selector)
    {
        using var fake = new FakeMetal();
        using MetalRuntime runtime = FakeMetal.Runtime();
        fake.Fail(selector);
        Assert.Throws<MetalException>(() => runtime.Submit([FakeMetal.Launch(Attend)], staysOpen: true));
        runtime.Commit();
        Assert.Equal(1, runtime.Submit([FakeMetal.Launch(Attend)], staysOpen: true));
        runtime.Commit();
        runtime.Wait(1);
    }

    [Fact]
    public void Memory_that_nobody_disposes_is_released_by_the_finaliser()
    {
        using var fake = new FakeMetal();
        using MetalRuntime runtime = FakeMetal.Runtime();
        Forget(runtime);
        for (int i = 0; i < 3; i++)
        {
            GC.Collect();
            GC.WaitForPendingFinalizers();
        }

        Assert.Contains("dealloc MTLBuffer#1", fake.Log, StringComparer.Ordinal);

        [System.Runtime.CompilerServices.MethodImpl(System.Runtime.CompilerServices.MethodImplOptions.NoInlining)]
        static void Forget(MetalRuntime runtime) => runtime.Allocate(64);
    }
}
