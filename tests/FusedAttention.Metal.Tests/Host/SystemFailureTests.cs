using FusedAttention.Devices;
using FusedAttention.Metal.Launching;
using FusedAttention.Metal.ObjectiveC;
using Xunit;

namespace FusedAttention.Metal.Tests.Host;

/// <summary>Every step that the system can refuse, refused: an exception that says what it said, nothing leaked, and the next try works.</summary>
[Collection(FakeMetal.Collection)]
public sealed class SystemFailureTests
{
    private static readonly KernelFunction Attend = FakeMetal.Function("attend", new FunctionConstant(0, "has_mask", FunctionConstantType.Bool, 1));

    public static TheoryData<string, int, bool, string> Steps => new()
    {
        { "newBufferWithLength:options:", 1, false, "a buffer of 4096 bytes" },
        { "contents", 1, false, "the contents of a buffer" },
        { "alloc", 1, false, "[NSString alloc]" },
        { "initWithUTF8String:", 1, false, "a string" },
        { "initWithUTF8String:", 2, false, "a string of 6 bytes" },
        { "new", 1, false, "compile options" },
        { "new", 2, false, "function constants" },
        { "newLibraryWithSource:options:error:", 1, true, "it was asked to fail (FakeDomain 17)" },
        { "newLibraryWithSource:options:error:", 1, false, "the system gave no reason" },
        { "newFunctionWithName:constantValues:error:", 1, true, "it was asked to fail (FakeDomain 17)" },
        { "newFunctionWithName:constantValues:error:", 1, false, "attend (Plain HEAD_DIM=64; has_mask=1)" },
        { "newComputePipelineStateWithFunction:error:", 1, true, "it was asked to fail (FakeDomain 17)" },
        { "newComputePipelineStateWithFunction:error:", 1, false, "the system gave no reason" },
        { "commandBuffer", 1, false, "a command buffer" },
        { "computeCommandEncoder", 1, false, "a compute command encoder" },
    };

    [Theory]
    [MemberData(nameof(Steps))]
    public void A_step_that_fails_is_reported_and_can_be_tried_again(string selector, int nth, bool withError, string inMessage)
    {
        using var fake = new FakeMetal();
        using (MetalRuntime runtime = FakeMetal.Runtime())
        {
            fake.Fail(selector, nth, withError);
            MetalException error = Assert.Throws<MetalException>(Try);
            Assert.Contains(inMessage, error.Message, StringComparison.Ordinal);
            Assert.DoesNotContain(fake.Living, static name => name.StartsWith("MTLBuffer", StringComparison.Ordinal) || name.StartsWith("NS", StringComparison.Ordinal));
            Assert.DoesNotContain(fake.Living, static name => name.StartsWith("MTLCommandBuffer", StringComparison.Ordinal) || name.StartsWith("MTLComputeCommandEncoder", StringComparison.Ordinal));
            Try();

            void Try()
            {
                using DeviceMemory memory = runtime.Allocate(4096);
                runtime.Wait(runtime.Submit([FakeMetal.Launch(Attend, new BufferBinding(0, memory, 0, IsWritten: true))]));
            }
        }
    }

    [Fact]
    public void A_device_without_a_queue_is_let_go()
    {
        using var fake = new FakeMetal();
        fake.Fail("newCommandQueue");
        Assert.Contains("a command queue", Assert.Throws<MetalException>(() => FakeMetal.Runtime()).Message, StringComparison.Ordinal);
    }

    [Fact]
    public unsafe void Memory_that_cannot_be_wrapped_is_refused()
    {
        using var fake = new FakeMetal();
        using MetalRuntime runtime = FakeMetal.Runtime();
        void* pages = System.Runtime.InteropServices.NativeMemory.AlignedAlloc(16384, 16384);
        fake.Fail("newBufferWithBytesNoCopy:length:options:deallocator:");
        Assert.Contains("16384 bytes of the caller's memory", Assert.Throws<MetalException>(() => runtime.Wrap((nint)pages, 16384)).Message, StringComparison.Ordinal);
        System.Runtime.InteropServices.NativeMemory.AlignedFree(pages);
    }

    [Fact]
    public void What_the_compiler_refuses_is_reported_with_its_log_and_our_files()
    {
        using var fake = new FakeMetal();
        fake.Set("reasons", 1);
        using MetalRuntime runtime = FakeMetal.Runtime();
        KernelFunction broken = Attend with { Definitions = [new("BROKEN", "1")] };
        string message = Assert.Throws<MetalException>(() => runtime.Prepare(broken)).Message;
        foreach (string part in (string[])["plain.metal:7:2: error: this line is not Metal", "plain.metal (", "Plain BROKEN=1", "because the test says so", "ask the test", "MTLLibraryErrorDomain 3"])
            Assert.Contains(part, message, StringComparison.Ordinal);

        // It is not remembered as compiled, nor as failed.
        fake.Take();
        Assert.Throws<MetalException>(() => runtime.Prepare(broken));
        Assert.Contains(fake.Take(), static line => line.EndsWith("MTLCompileOptions#2 -> nil", StringComparison.Ordinal));
    }

    [Fact]
    public void A_library_that_comes_with_warnings_is_taken()
    {
        using var fake = new FakeMetal();
        fake.Set("warnings", 1);
        using MetalRuntime runtime = FakeMetal.Runtime();
        runtime.Prepare(Attend);
    }

    [Fact]
    public void A_function_that_the_text_lacks_is_named()
    {
        using var fake = new FakeMetal();
        using MetalRuntime runtime = FakeMetal.Runtime();
        string message = Assert.Throws<MetalException>(() => runtime.Prepare(FakeMetal.Function("decode"))).Message;
        Assert.Contains("decode (Plain HEAD_DIM=64; ): there is no such function (MTLLibraryErrorDomain 5)", message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("executionWidth", 64, "simdgroups of 64 threads")]
    [InlineData("staticMemory", 40_000, "40000 bytes of threadgroup memory; the device has 32768")]
    public void A_pipeline_that_does_not_fit_is_refused_and_let_go(string option, int value, string inMessage)
    {
        using var fake = new FakeMetal();
        fake.Set(option, value);
        using MetalRuntime runtime = FakeMetal.Runtime();
        Assert.Contains(inMessage, Assert.Throws<MetalException>(() => runtime.Prepare(Attend)).Message, StringComparison.Ordinal);
        Assert.DoesNotContain(fake.Living, static name => name.StartsWith("MTLComputePipelineState", StringComparison.Ordinal));
    }

    [Fact]
    public void Work_that_fails_on_the_GPU_is_told_by_the_next_wait()
    {
        using var fake = new FakeMetal();
        fake.Completion = Completion.WhenWaitedFor;
        using MetalRuntime runtime = FakeMetal.Runtime();
        KernelLaunch attend = FakeMetal.Launch(Attend), merge = FakeMetal.Launch(FakeMetal.Function("merge"));
        Assert.Equal(1, runtime.Submit([attend]));
        fake.Fail("commandBuffer ends");
        Assert.Equal(2, runtime.Submit([attend, merge]));
        Assert.Equal(3, runtime.Submit([merge]));
        Assert.Equal(4, runtime.Submit([merge]));

        // The first one was well. Whoever waits for the third hears of the second, once; whoever asks for the second itself hears it always.
        runtime.Wait(1);
        string message = Assert.Throws<MetalException>(() => runtime.Wait(3)).Message;
        foreach (string part in (string[])["submission 2", "status 5", "attend, merge", "Caused GPU Timeout Error", "MTLCommandBufferErrorDomain 2"])
            Assert.Contains(part, message, StringComparison.Ordinal);
        runtime.Wait(3);
        runtime.Wait(1);
        Assert.Throws<MetalException>(() => runtime.Wait(2));
        runtime.Wait(4);
        Assert.Throws<ArgumentOutOfRangeException>(() => runtime.Wait(5));
        runtime.Wait(0);
    }

    /// <summary>By the driver's words, or by Metal's own code where they are missing: what it means, whether the next call needs another queue, and whether it gets less to do at a time.</summary>
    [Theory]
    [InlineData(2, "took too long", true, true)]
    [InlineData(3, "made no progress", true, true)]
    [InlineData(4, "took no more work from this queue", true, false)]
    [InlineData(5, "Other work on the GPU failed", false, false)]
    [InlineData(6, "does not let this process use the GPU", false, false)]
    [InlineData(8, "memory is not enough", false, false)]
    [InlineData(11, "memory that is not the GPU's", true, false)]
    [InlineData(14, "kept the screen waiting", true, true)]
    [InlineData(101, "it failed (MTLCommandBufferErrorDomain 1)", false, false)]
    [InlineData(102, "took too long", true, true)]
    [InlineData(103, "memory that is not the GPU's", true, false)]
    [InlineData(104, "took no more work from this queue", true, false)]
    [InlineData(107, "does not let this process use the GPU", false, false)]
    [InlineData(108, "memory is not enough", false, false)]
    [InlineData(109, "memory that is not the GPU's", true, false)]
    [InlineData(111, "is no longer there", false, false)]
    [InlineData(112, "it failed (MTLCommandBufferErrorDomain 12)", false, false)]
    public void Work_that_the_system_stops_is_told_in_words_and_survived(int cause, string inMessage, bool newQueue, bool lessWork)
    {
        using var fake = new FakeMetal();
        fake.Set("interruption", cause);
        using MetalRuntime runtime = FakeMetal.Runtime();
        fake.Fail("commandBuffer ends");
        runtime.Submit([FakeMetal.Launch(Attend)]);
        string message = Assert.Throws<MetalException>(() => runtime.Wait(1)).Message;
        Assert.Contains(inMessage, message, StringComparison.Ordinal);
        Assert.Equal(newQueue && cause is not 2 and not 14 and not 102, message.Contains("gets a queue of its own", StringComparison.Ordinal));
        Assert.Equal(lessWork && cause is not 3, message.Contains("smaller pieces", StringComparison.Ordinal));
        Assert.Equal(lessWork ? CommandBufferBudget.First / 2 : CommandBufferBudget.First, runtime.SubmissionBudget);
        fake.Take();
        runtime.Wait(runtime.Submit([FakeMetal.Launch(Attend)]));
        runtime.Wait(runtime.Submit([FakeMetal.Launch(Attend)]));
        Assert.Equal(newQueue ? 1 : 0, fake.Take().Count(static line => line.Contains("newCommandQueue", StringComparison.Ordinal)));
        Assert.Single(fake.Living, static name => name.StartsWith("MTLCommandQueue", StringComparison.Ordinal));
    }

    /// <summary>What was submitted behind a failure and before anybody heard of it fails too; the first call after that goes to the new queue.</summary>
    [Fact]
    public void A_queue_is_replaced_when_all_that_it_had_is_over()
    {
        using var fake = new FakeMetal();
        fake.Completion = Completion.WhenTold;
        fake.Set("interruption", 4);
        using MetalRuntime runtime = FakeMetal.Runtime();
        fake.Fail("commandBuffer ends");
        runtime.Submit([FakeMetal.Launch(Attend)]);
        runtime.Submit([FakeMetal.Launch(Attend)]);
        fake.Finish(left: 1);
        Assert.Equal(1, runtime.Completed);
        fake.Take();
        long third = 0;
        var thread = BackgroundThread.Start(() => third = runtime.Submit([FakeMetal.Launch(Attend)]));
        Assert.True(SpinWait.SpinUntil(() => fake.Log.Contains("MTLCommandBuffer#2 waitUntilCompleted", StringComparer.Ordinal), TimeSpan.FromSeconds(20)));
        fake.Finish();
        thread.Join();
        Assert.Equal(3, third);
        string[] sent = fake.Take();
        Assert.Contains("MTLDevice#1 newCommandQueue -> MTLCommandQueue#2", sent, StringComparer.Ordinal);
        Assert.Contains("MTLCommandQueue#2 commandBuffer -> MTLCommandBuffer#3", sent, StringComparer.Ordinal);
        fake.Finish();
    }
}
