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

    [Fact]
    public void Work_that_kept_the_screen_waiting_is_told_as_that_and_the_queue_is_kept()
    {
        using var fake = new FakeMetal();
        fake.Set("interruption", 14);
        using MetalRuntime runtime = FakeMetal.Runtime();
        fake.Fail("commandBuffer ends");
        runtime.Submit([FakeMetal.Launch(Attend)]);
        string message = Assert.Throws<MetalException>(() => runtime.Wait(1)).Message;
        foreach (string part in (string[])["0000000e", "kept the screen waiting", "smaller pieces"]) Assert.Contains(part, message, StringComparison.Ordinal);
        fake.Take();
        runtime.Wait(runtime.Submit([FakeMetal.Launch(Attend)]));
        Assert.DoesNotContain(fake.Take(), static line => line.Contains("newCommandQueue", StringComparison.Ordinal));
    }

    /// <summary>The system ignores a queue from some failures on; whoever goes on calling must not have to begin a new process.</summary>
    [Fact]
    public void A_queue_that_the_system_ignores_is_replaced()
    {
        using var fake = new FakeMetal();
        fake.Set("interruption", 4);
        using MetalRuntime runtime = FakeMetal.Runtime();
        fake.Fail("commandBuffer ends");
        runtime.Submit([FakeMetal.Launch(Attend)]);
        Assert.Contains("the next call gets a queue of its own", Assert.Throws<MetalException>(() => runtime.Wait(1)).Message, StringComparison.Ordinal);
        fake.Take();
        runtime.Wait(runtime.Submit([FakeMetal.Launch(Attend)]));
        runtime.Wait(runtime.Submit([FakeMetal.Launch(Attend)]));
        Assert.Single(fake.Take(), static line => line.Contains("newCommandQueue", StringComparison.Ordinal));
        Assert.Single(fake.Living, static name => name.StartsWith("MTLCommandQueue", StringComparison.Ordinal));
    }
}
