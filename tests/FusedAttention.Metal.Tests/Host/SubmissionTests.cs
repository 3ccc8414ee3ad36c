using FusedAttention.Devices;
using FusedAttention.Metal.Launching;
using FusedAttention.Metal.ObjectiveC;
using Xunit;

namespace FusedAttention.Metal.Tests.Host;

/// <summary>What compiling and submitting send, message by message.</summary>
[Collection(FakeMetal.Collection)]
public sealed class SubmissionTests
{
    private static readonly KernelFunction Attend = FakeMetal.Function(
        "attend",
        new FunctionConstant(0, "has_mask", FunctionConstantType.Bool, 1),
        new FunctionConstant(3, "cap", FunctionConstantType.Float, BitConverter.SingleToInt32Bits(-2.5f)),
        new FunctionConstant(4, "group", FunctionConstantType.Int, -7),
        new FunctionConstant(5, "rows", FunctionConstantType.UInt, -1),
        new FunctionConstant(60, "has_bias", FunctionConstantType.Bool, 0));

    private static readonly KernelFunction Merge = FakeMetal.Function("merge");

    [Fact]
    public void Compiling_sends_these_messages_in_this_order()
    {
        using var fake = new FakeMetal();
        using MetalRuntime runtime = FakeMetal.Runtime();
        Assert.Equal(["MTLCreateSystemDefaultDevice -> MTLDevice#1", "MTLDevice#1 newCommandQueue -> MTLCommandQueue#1"], fake.Take());
        Assert.Equal(new MetalDeviceDescription("Fake M4", 9, 32768, 1 << 30, HasKnownLaneMap: false), runtime.Device);
        Assert.True(runtime.HasUnifiedMemory);

        runtime.Prepare(Attend);
        int length = FakeMetal.Compose(Attend).Length;
        Assert.Equal(
            [
                "[NSString alloc] -> NSString#2",
                $"initWithUTF8String: {length} bytes -> NSString#3",
                "[MTLCompileOptions new] -> MTLCompileOptions#1",
                "MTLCompileOptions#1 setLanguageVersion: 3.1",
                "MTLCompileOptions#1 setMathMode: 0",
                $"MTLDevice#1 newLibrary {length} bytes MTLCompileOptions#1 -> MTLLibrary#1",
                "[MTLFunctionConstantValues new] -> MTLFunctionConstantValues#1",
                "[NSString alloc] -> NSString#4",
                "initWithUTF8String: \"attend\" -> NSString#5",
                "MTLFunctionConstantValues#1 constant 0: bool 1",
                "MTLFunctionConstantValues#1 constant 3: float -2.5",
                "MTLFunctionConstantValues#1 constant 4: int -7",
                "MTLFunctionConstantValues#1 constant 5: uint 4294967295",
                "MTLFunctionConstantValues#1 constant 60: bool 0",
                "MTLLibrary#1 newFunction attend MTLFunctionConstantValues#1 -> MTLFunction#1",
                "MTLDevice#1 newComputePipelineState MTLFunction#1 -> MTLComputePipelineState#1",
            ],
            fake.Take());
        Assert.Equal(FakeMetal.Compose(Attend), fake.Source);

        // Equal functions share the pipeline, and other functions of equal text the library.
        runtime.Prepare(FakeMetal.Function("attend", [.. Attend.Constants]));
        Assert.Empty(fake.Take());
        runtime.Prepare(Merge);
        Assert.Equal(
            [
                "[MTLFunctionConstantValues new] -> MTLFunctionConstantValues#2",
                "[NSString alloc] -> NSString#6",
                "initWithUTF8String: \"merge\" -> NSString#7",
                "MTLLibrary#1 newFunction merge MTLFunctionConstantValues#2 -> MTLFunction#2",
                "MTLDevice#1 newComputePipelineState MTLFunction#2 -> MTLComputePipelineState#2",
            ],
            fake.Take());
        runtime.Prepare(Merge with { Definitions = [new("HEAD_DIM", "128")] });
        Assert.Contains(fake.Take(), static line => line.EndsWith("-> MTLLibrary#2", StringComparison.Ordinal));
    }

    [Fact]
    public void Before_macOS_15_math_is_made_safe_by_the_older_option()
    {
        using var fake = new FakeMetal();
        fake.Set("mathMode", 0);
        using MetalRuntime runtime = FakeMetal.Runtime();
        runtime.Prepare(Attend);
        string[] options = [.. fake.Take().Where(static line => line.StartsWith("MTLCompileOptions#1 ", StringComparison.Ordinal))];
        Assert.Equal(["MTLCompileOptions#1 setLanguageVersion: 3.1", "MTLCompileOptions#1 setFastMathEnabled: 0"], options);
    }

    [Fact]
    public void A_submission_is_one_command_buffer_with_one_encoder()
    {
        using var fake = new FakeMetal();
        fake.Completion = Completion.WhenTold;
        using MetalRuntime runtime = FakeMetal.Runtime();
        using DeviceMemory small = runtime.Allocate(0), large = runtime.Allocate(4096);
        runtime.Prepare(Attend);
        runtime.Prepare(Merge);
        Assert.Contains("MTLDevice#1 newBuffer 16 bytes, options 0 -> MTLBuffer#1", fake.Take(), StringComparer.Ordinal);

        Assert.Equal(1, runtime.Submit(
        [
            new(Attend, [new(0, large, 256, IsWritten: false), new(30, small, 0, IsWritten: true)], 14, [1, 2, 0xFE, 255], new(70_000, 2, 3), new(32, 4, 5)),
            new(Merge, [new(2, large, 4092, IsWritten: true)], 0, [], new(1, 1, 1), new(1024, 1, 1)),
        ]));
        Assert.Equal(
            [
                "MTLCommandQueue#1 commandBuffer -> MTLCommandBuffer#1",
                "MTLCommandBuffer#1 computeCommandEncoder -> MTLComputeCommandEncoder#1",
                "MTLComputeCommandEncoder#1 setComputePipelineState MTLComputePipelineState#1",
                "MTLComputeCommandEncoder#1 setBuffer 0: MTLBuffer#2 + 256",
                "MTLComputeCommandEncoder#1 setBuffer 30: MTLBuffer#1 + 0",
                "MTLComputeCommandEncoder#1 setBytes 14: 0102feff",
                "MTLComputeCommandEncoder#1 dispatch 70000 x 2 x 3 of 32 x 4 x 5",
                "MTLComputeCommandEncoder#1 setComputePipelineState MTLComputePipelineState#2",
                "MTLComputeCommandEncoder#1 setBuffer 2: MTLBuffer#2 + 4092",
                "MTLComputeCommandEncoder#1 dispatch 1 x 1 x 1 of 1024 x 1 x 1",
                "MTLComputeCommandEncoder#1 endEncoding",
                "MTLCommandBuffer#1 commit",
            ],
            fake.Take());
        Assert.Equal(0, runtime.Completed);
        fake.Finish();
        Assert.Equal(1, runtime.Completed);
        Assert.Equal(["MTLCommandBuffer#1 ends well"], fake.Take());
        Assert.DoesNotContain(fake.Living, static name => name.StartsWith("MTLCommandBuffer", StringComparison.Ordinal));
    }

    [Fact]
    public unsafe void Memory_of_the_callers_is_wrapped_in_place()
    {
        using var fake = new FakeMetal();
        using MetalRuntime runtime = FakeMetal.Runtime();
        fake.Take();
        void* pages = System.Runtime.InteropServices.NativeMemory.AlignedAlloc(2 * 16384, 16384);
        using (DeviceMemory memory = runtime.Wrap((nint)pages, 2 * 16384))
        {
            Assert.Equal(["MTLDevice#1 newBufferNoCopy 32768 bytes, options 0 -> MTLBuffer#1"], fake.Take());
            Assert.True(memory.Pointer == pages && memory.Bytes == 32768);
        }

        Assert.Contains("dealloc MTLBuffer#1", fake.Log, StringComparer.Ordinal);
        System.Runtime.InteropServices.NativeMemory.AlignedFree(pages);
    }

    [Fact]
    public void Launches_that_Metal_would_die_of_are_refused_before_the_first_message()
    {
        using var fake = new FakeMetal();
        fake.Set("maxThreads", 896);
        using MetalRuntime runtime = FakeMetal.Runtime();
        using DeviceMemory memory = runtime.Allocate(4096);
        runtime.Prepare(Attend);
        fake.Take();
        KernelLaunch good = FakeMetal.Launch(Attend, new BufferBinding(0, memory, 0, IsWritten: false));
        Refuse<ArgumentException>(good with { Threadgroups = new(0, 1, 1) }, "0 threadgroups", "attend");
        Refuse<ArgumentException>(good with { ThreadsPerThreadgroup = new(32, 0, 1) }, "attend");
        Refuse<ArgumentException>(good with { Parameters = [.. new byte[4096]] }, "4096 bytes of parameters");
        Refuse<ArgumentException>(good with { ParameterIndex = 31 }, "slot 31");
        Refuse<ArgumentException>(good with { Buffers = [new(31, memory, 0, IsWritten: false)] }, "slot 31");
        Refuse<ArgumentException>(good with { Buffers = [new(-1, memory, 0, IsWritten: false)] }, "slot -1");
        Refuse<ArgumentException>(good with { Buffers = [new(0, memory, 4096, IsWritten: false)] }, "byte 4096 of 4096");
        Refuse<ArgumentException>(good with { Buffers = [new(0, memory, -4, IsWritten: false)] }, "byte -4");
        Refuse<MetalException>(good with { ThreadsPerThreadgroup = new(1024, 1, 1) }, "896 threads", "1024 are needed", "HEAD_DIM=64");
        Assert.Throws<ArgumentException>(() => runtime.Submit([]));
        Assert.Empty(fake.Take());
        Assert.Equal(1, runtime.Submit([good with { ThreadsPerThreadgroup = new(896, 1, 1) }]));

        void Refuse<TException>(KernelLaunch bad, params string[] inMessage)
            where TException : Exception
        {
            var error = Assert.ThrowsAny<TException>(() => runtime.Submit([good, bad]));
            foreach (string part in inMessage) Assert.Contains(part.Replace("0 threadgroups", "X = 0", StringComparison.Ordinal), error.Message, StringComparison.Ordinal);
        }
    }
}
