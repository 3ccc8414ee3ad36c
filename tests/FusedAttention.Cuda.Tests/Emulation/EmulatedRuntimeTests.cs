using FusedAttention.Cuda.Emulation;
using FusedAttention.Cuda.Emulation.Runtime;
using FusedAttention.Cuda.Launching;
using Xunit;

namespace FusedAttention.Cuda.Tests.Emulation;

/// <summary>The emulated device as a runtime: what is queued runs in order, and as late as it may.</summary>
public sealed unsafe class EmulatedRuntimeTests
{
    /// <summary>Adds 1 to a number.</summary>
    private static readonly KernelFunction Add = new("test", "add one", 1, 0, static () => TestKernel.Text("ld.global.u32 %r2, [%rd0]; add.u32 %r2, %r2, 1; st.global.u32 [%rd0], %r2;", 1, threads: 1, target: "sm_80"));

    [Fact]
    public void What_is_queued_runs_when_it_is_waited_for()
    {
        using var runtime = new EmulatedRuntime();
        using CudaMemory number = runtime.Allocate(4), pinned = runtime.AllocatePinned(8);
        using ICudaStream stream = runtime.CreateStream();
        uint given = 5;
        *(uint*)pinned.Pointer = 5;
        stream.CopyToDevice(new(number, 0), &given, 4);
        Launch(stream, number);
        stream.CopyToHost(pinned.Pointer + 4, new(number, 0), 4);
        long first = stream.EndSubmission();
        stream.CopyToDevice(new(number, 0), pinned.Pointer, 4);
        Launch(stream, number);
        stream.CopyToHost(pinned.Pointer + 4, new(number, 0), 4);
        long second = stream.EndSubmission();

        // What is not pinned was copied when it was queued; what is pinned is read when the copy runs.
        (given, *(uint*)pinned.Pointer) = (50, 70);
        Assert.Equal((0L, 0L), (stream.Completed, runtime.Launches));
        stream.Wait(first);
        Assert.Equal((6u, 1L), (((uint*)pinned.Pointer)[1], stream.Completed));
        stream.Wait(second);
        Assert.Equal((71u, 2L), (((uint*)pinned.Pointer)[1], stream.Completed));
        Assert.Throws<ArgumentOutOfRangeException>(() => stream.Wait(3));
    }

    [Fact]
    public void A_stream_waits_for_another()
    {
        using var runtime = new EmulatedRuntime();
        using CudaMemory number = runtime.Allocate(4);
        using ICudaStream a = runtime.CreateStream(), b = runtime.CreateStream();
        a.Clear(new(number, 0), 4);
        Launch(a, number);
        long made = a.EndSubmission();
        b.WaitFor(a, made);
        Launch(b, number);
        uint read = 0;
        b.CopyToHost(&read, new(number, 0), 4);
        b.Wait(b.EndSubmission());
        Assert.Equal((2u, 1L), (read, a.Completed));
    }

    /// <summary>As on a GPU: memory that is given back too early is not there any more.</summary>
    [Fact]
    public void Memory_that_queued_work_uses_may_not_be_given_back()
    {
        using var runtime = new EmulatedRuntime();
        CudaMemory number = runtime.Allocate(4);
        using ICudaStream stream = runtime.CreateStream();
        stream.Clear(new(number, 0), 4);
        Launch(stream, number);
        long submission = stream.EndSubmission();
        number.Dispose();
        Assert.Contains("memory that was freed", Assert.Throws<CudaEmulationException>(() => stream.Wait(submission)).Message, StringComparison.Ordinal);

        // The failure is told once; what was queued behind it never runs, and the stream goes on.
        stream.Wait(submission);
        Assert.Equal(submission, stream.Completed);
        using CudaMemory other = runtime.Allocate(4);
        stream.Clear(new(other, 0), 4);
        Launch(stream, other);
        stream.Wait(stream.EndSubmission());
        Assert.Equal(-1, runtime.FirstUnwritten(other));
    }

    [Fact]
    public void What_the_driver_refuses_is_refused()
    {
        using var runtime = new EmulatedRuntime();
        using CudaMemory number = runtime.Allocate(4);
        using ICudaStream stream = runtime.CreateStream();
        ulong address = number.Address;
        var many = new KernelFunction("test", "too many threads", 64, 0, static () => TestKernel.Text("", 1, threads: 32, target: "sm_80"));
        var shared = new KernelFunction("test", "too much shared memory", 32, 1 << 20, static () => TestKernel.Text("", 1, target: "sm_80"));
        var other = new KernelFunction("other", "an entry that is not there", 32, 0, static () => TestKernel.Text("", 1, target: "sm_80"));
        Assert.Contains("64 threads, where the text allows 32", Refusal(many, 8), StringComparison.Ordinal);
        Assert.Contains("of shared memory", Refusal(shared, 8), StringComparison.Ordinal);
        Assert.Contains("4 bytes of parameters, where the driver reads the 8 of the text", Refusal(Add, 4), StringComparison.Ordinal);
        Assert.Contains("no entry other", Assert.Throws<CudaEmulationException>(() => runtime.Prepare(other)).Message, StringComparison.Ordinal);
        Assert.Throws<CudaException>(() => runtime.Allocate(runtime.Device.MemoryBytes));

        string Refusal(KernelFunction function, int bytes) => Assert.Throws<CudaException>(() =>
        {
            ulong* parameters = stackalloc ulong[] { address, 0 };
            stream.Launch(new(function, 1, 1, 1, new ReadOnlySpan<byte>(parameters, bytes)));
        }).Message;
    }

    private static void Launch(ICudaStream stream, CudaMemory number)
    {
        ulong address = number.Address;
        stream.Launch(new(Add, 1, 1, 1, new ReadOnlySpan<byte>(&address, sizeof(ulong))));
    }
}
