using FusedAttention.Cuda.Driver;
using FusedAttention.Cuda.Launching;
using FusedAttention.Cuda.Tests.Fakes;
using Xunit;

namespace FusedAttention.Cuda.Tests.Driver;

/// <summary>What the runtime asks of the driver: contexts, memory, streams and their submissions.</summary>
[Collection(FakeDriver.Collection)]
public sealed unsafe class CudaRuntimeTests : IDisposable
{
    private readonly FakeDriver _fake = new();
    private readonly CudaRuntime _runtime;

    public CudaRuntimeTests() => _runtime = _fake.Runtime();

    public void Dispose()
    {
        _runtime.Dispose();
        _fake.Dispose();
    }

    [Fact]
    public void The_context_is_current_for_a_call_and_the_callers_again_afterwards()
    {
        FakeDriver.Push(0x42);
        using CudaMemory memory = _runtime.Allocate(1000);
        Assert.Equal(["retain 0", "push 100", "stream 5001 flags 1", "pop 100", "push 100", "alloc 1000 on 5001", "pop 100"], _fake.Take());
        Assert.Equal((0x42, 0), (FakeDriver.Current, FakeDriver.CaptureMode));

        // Also when it fails.
        _fake.Failing["cuMemAllocAsync"] = 2;
        string message = Assert.Throws<CudaException>(() => _runtime.Allocate(77)).Message;
        Assert.Equal("The device gives no memory of 77 bytes. cuMemAllocAsync: CUDA_ERROR_OUT_OF_MEMORY (2): what went wrong", message);
        Assert.Equal((0x42, 0), (FakeDriver.Current, FakeDriver.CaptureMode));

        // Where it is current already, nothing is pushed.
        _fake.Take();
        FakeDriver.Push(0x100);
        _fake.Failing.Clear();
        _runtime.Allocate(64).Dispose();
        Assert.Equal(["alloc 64 on 5001"], _fake.Take());
    }

    /// <summary>The fake refuses what the real driver refuses of alignments, types and sizes, and puts what it was told into the map.</summary>
    [Fact]
    public void Tensors_are_encoded_for_the_copy_unit()
    {
        var shape = new TensorMapShape(0x12340, true, 80, 300, 2, 3, 320, 160, 96_000, 64, 128, 1);
        ulong[] map = new ulong[16];
        _runtime.EncodeTensorMap(shape, System.Runtime.InteropServices.MemoryMarshal.AsBytes(map.AsSpan()));
        Assert.Equal([0x12340, 80, 300, 2, 3, 320, 160, 96_000, 64, 128, 1, 1, 9, 0, 0, 0], map);
        Assert.Contains("cuTensorMapEncodeTiled: CUDA_ERROR_INVALID_VALUE (1)", Refused(_runtime, shape with { Stride1 = 321 }), StringComparison.Ordinal);
        Assert.Contains("cuTensorMapEncodeTiled", Refused(_runtime, shape with { Address = 8 }), StringComparison.Ordinal);

        // A driver that is older runs everything else.
        _fake.Missing.Add("cuTensorMapEncodeTiled");
        using CudaRuntime old = _fake.Runtime();
        Assert.Contains("older than CUDA 12", Refused(old, shape), StringComparison.Ordinal);

        static string Refused(CudaRuntime runtime, TensorMapShape shape) => Assert.Throws<CudaException>(() => runtime.EncodeTensorMap(shape, new byte[TensorMapShape.MapBytes])).Message;
    }

    [Fact]
    public void Memory_is_freed_once()
    {
        CudaMemory memory = _runtime.Allocate(1000), pinned = _runtime.AllocatePinned(100);
        Assert.True(memory.Pointer is null && memory.Address % 256 == 0 && memory.Bytes == 1000);
        Assert.True(pinned.Pointer == (byte*)pinned.Address);
        Assert.Contains("host alloc 100 flags 3", _fake.Take(), StringComparer.Ordinal);
        Assert.Equal(2, _fake.LivingMemory);
        memory.Dispose();
        memory.Dispose();
        pinned.Dispose();
        pinned.Dispose();
        Assert.Equal(0, _fake.LivingMemory);
        _fake.Failing["cuMemHostAlloc"] = 2;
        Assert.Contains("cuMemHostAlloc: CUDA_ERROR_OUT_OF_MEMORY (2)", Assert.Throws<CudaException>(() => _runtime.AllocatePinned(5)).Message, StringComparison.Ordinal);
        _fake.Failing.Clear();
        _fake.Failing["cuMemHostGetDevicePointer"] = 1;
        Assert.Throws<CudaException>(() => _runtime.AllocatePinned(5));
        Assert.Equal(0, _fake.LivingMemory);
    }

    [Fact]
    public void Devices_without_a_pool_have_plain_memory()
    {
        _fake.HasPools = false;
        using CudaMemory memory = _runtime.Allocate(1000);
        Assert.Equal(["retain 0", "push 100", "alloc 1000", "pop 100"], _fake.Take());
    }

    [Fact]
    public void After_the_end_of_the_runtime_nothing_is_asked_of_the_driver()
    {
        CudaMemory memory = _runtime.Allocate(1000);
        ICudaStream stream = _runtime.CreateStream();
        stream.EndSubmission();
        _fake.Take();
        _runtime.Dispose();
        _runtime.Dispose();
        Assert.Equal(["push 100", "destroy stream 5001", "pop 100", "release 0"], _fake.Take());
        memory.Dispose();
        stream.Dispose();
        Assert.Empty(_fake.Take());
        Assert.Throws<ObjectDisposedException>(() => _runtime.Allocate(5));
    }

    [Fact]
    public void Allocating_loading_and_looking_are_allowed_while_somebody_captures()
    {
        ICudaStream stream = _runtime.CreateStream();
        stream.EndSubmission();
        _fake.IsAnyCapturing = true;
        _runtime.Allocate(64).Dispose();
        _runtime.AllocatePinned(64).Dispose();
        _runtime.Prepare(new("a", "a", 32, 0, static () => "text"));
        using (ICudaStream another = _runtime.CreateStream()) another.EndSubmission();
        Assert.Equal(0, stream.Completed);
        stream.Wait(1);
        Assert.Equal((1, 0), (stream.Completed, FakeDriver.CaptureMode));
        Assert.Equal(0, _fake.LivingMemory);
        stream.Dispose();
    }

    [Fact]
    public void Copies_and_launches_go_to_the_stream()
    {
        using ICudaStream stream = _runtime.CreateStream();
        using CudaMemory memory = _runtime.Allocate(64), other = _runtime.Allocate(64);
        _fake.Take();
        long value = 0x1122334455667788, read = 0;
        stream.Clear(new(memory, 0), 64);
        stream.CopyToDevice(new(memory, 8), &value, 8);
        stream.Copy(new(other, 16), new(memory, 8), 8);
        stream.CopyToHost(&read, new(other, 16), 8);
        Assert.Equal(value, read);
        string handle = $"{stream.Handle:x}";
        Assert.Equal([$"cuMemcpyHtoDAsync 8 on {handle}", $"cuMemcpyDtoDAsync 8 on {handle}", $"cuMemcpyDtoHAsync 8 on {handle}"], Calls());

        KernelFunction function = new("attend", "attend Float32", 384, 100_000, static () => "text");
        _fake.ParameterBytes = 3;
        stream.Launch(new(function, 5, 2, 1, [1, 2, 3]));
        stream.Launch(new(function, 7, 1, 1, []));
        Assert.Equal(
            ["load text", "function attend", "attribute 8 = 100000", $"launch 5 x 2 x 1 of 384, 100000 shared, on {handle}", $"launch 7 x 1 x 1 of 384, 100000 shared, on {handle}"], Calls());
        Assert.Equal([[1, 2, 3], []], _fake.Launched);
        _fake.Failing["cuLaunchKernel"] = 1;
        string message = Assert.Throws<CudaException>(() => stream.Launch(new(function, 5, 2, 1, [1, 2, 3]))).Message;
        Assert.Equal(
            "Kernel attend Float32 cannot be launched (5 x 2 x 1 blocks of 384 threads, 100000 bytes of shared memory, 3 bytes of parameters). cuLaunchKernel: CUDA_ERROR_INVALID_VALUE (1): what went wrong",
            message);
    }

    [Fact]
    public void Submissions_end_in_order_and_their_events_are_used_again()
    {
        ICudaStream stream = _runtime.CreateStream();
        for (int i = 1; i <= 200; i++)
        {
            Assert.Equal(i, stream.EndSubmission());
            if (i > 3) _fake.Reach(1);
            Assert.Equal(Math.Max(0, i - 3), stream.Completed);
        }

        Assert.Equal(32, _fake.LivingEvents);
        stream.Wait(199);
        Assert.Equal(199, stream.Completed);
        Assert.Throws<ArgumentOutOfRangeException>(() => stream.Wait(201));
        stream.Wait(200);
        stream.Wait(7);
        stream.Dispose();
        stream.Dispose();
        Assert.Equal(0, _fake.LivingEvents);
        Assert.Single(Calls(), $"destroy stream {stream.Handle:x}");
        Assert.Equal(200, stream.Completed);
        stream.Wait(200);
    }

    [Fact]
    public void Any_number_may_be_under_way()
    {
        using ICudaStream stream = _runtime.CreateStream();
        for (int i = 0; i < 7; i++) stream.EndSubmission();
        stream.Wait(7);
        for (int i = 8; i <= 1000; i++) Assert.Equal(i, stream.EndSubmission());
        Assert.Equal(7, stream.Completed);
        _fake.Reach(500);
        Assert.Equal(507, stream.Completed);
        stream.Wait(800);
        Assert.Equal(800, stream.Completed);
        for (int i = 1001; i <= 1300; i++) stream.EndSubmission();
        Assert.Equal(1024, _fake.LivingEvents);
    }

    [Fact]
    public void Nothing_is_counted_while_capturing()
    {
        using ICudaStream stream = _runtime.WrapStream(0x77);
        Assert.Equal(1, stream.EndSubmission());
        _fake.Capturing = 0x77;
        Assert.True(stream.IsCapturing);
        Assert.Equal(0, stream.EndSubmission());
        _fake.Capturing = -1;
        Assert.Equal((false, 2L), (stream.IsCapturing, stream.EndSubmission()));
        stream.Dispose();
        Assert.DoesNotContain("destroy stream 77", Calls(), StringComparer.Ordinal);
    }

    [Fact]
    public void Streams_wait_for_each_other_on_the_device_unless_it_has_happened()
    {
        using ICudaStream a = _runtime.CreateStream(), b = _runtime.CreateStream();
        a.EndSubmission();
        a.EndSubmission();
        string[] events = [.. Calls().Where(static line => line.StartsWith("event", StringComparison.Ordinal)).Select(static line => line.Split(' ')[1])];
        Assert.Equal(2, events.Length);
        b.WaitFor(a, 2);
        Assert.Equal([$"{b.Handle:x} waits for {events[1]}"], Calls());
        a.Wait(2);
        b.WaitFor(a, 2);
        Assert.Empty(Calls());
    }

    [Theory]
    [InlineData("cuEventQuery")]
    [InlineData("cuEventSynchronize")]
    public void A_failure_of_the_device_is_told_by_every_wait(string where)
    {
        ICudaStream stream = _runtime.CreateStream();
        stream.EndSubmission();
        stream.EndSubmission();
        _fake.Failing[where] = 700;
        if (where is "cuEventQuery") Assert.Equal(2, stream.Completed);
        for (int i = 0; i < 2; i++)
        {
            string message = Assert.Throws<CudaException>(() => stream.Wait(2)).Message;
            Assert.Equal($"Work on the GPU failed. {where}: CUDA_ERROR_ILLEGAL_ADDRESS (700): what went wrong", message);
        }

        Assert.Equal(2, stream.Completed);
        Assert.Throws<CudaException>(() => stream.EndSubmission());
        stream.Dispose();
        Assert.Equal(0, _fake.LivingEvents);
    }

    [Fact]
    public void Looking_throws_nothing_even_if_the_context_is_gone()
    {
        using ICudaStream stream = _runtime.CreateStream();
        stream.EndSubmission();
        CudaMemory memory = _runtime.Allocate(64);
        _fake.Failing["cuCtxPushCurrent"] = 201;
        Assert.Equal(1, stream.Completed);
        memory.Dispose();
        Assert.Contains("CUDA_ERROR_INVALID_CONTEXT", Assert.Throws<CudaException>(() => stream.Wait(1)).Message, StringComparison.Ordinal);
        _fake.Failing.Clear();
    }

    [Fact]
    public void An_event_that_somebody_is_waiting_with_is_not_used_again()
    {
        using ICudaStream stream = _runtime.CreateStream();
        using var isWaiting = new ManualResetEventSlim();
        using var mayReturn = new ManualResetEventSlim();
        _fake.OnEventSynchronize = () =>
        {
            isWaiting.Set();
            mayReturn.Wait();
        };
        stream.EndSubmission();
        BackgroundThread waiter = BackgroundThread.Start(() => stream.Wait(1));
        isWaiting.Wait();
        _fake.Reach(1);
        Assert.Equal(1, stream.Completed);
        for (int i = 2; i <= 33; i++) stream.EndSubmission();
        Assert.Equal(33, _fake.LivingEvents);       // a ring of 32, and his
        mayReturn.Set();
        waiter.Join();
        Assert.Equal((32, 1), (_fake.LivingEvents, stream.Completed));
    }

    [Fact]
    public void Synchronizing_waits_for_the_context()
    {
        using ICudaStream a = _runtime.CreateStream(), b = _runtime.CreateStream();
        a.EndSubmission();
        b.EndSubmission();
        _runtime.Synchronize();
        Assert.Equal((1, 1), (a.Completed, b.Completed));
        _fake.Failing["cuCtxSynchronize"] = 700;
        Assert.Throws<CudaException>(_runtime.Synchronize);
    }

    [Fact]
    public void In_steady_state_nothing_is_allocated()
    {
        _fake.Records = false;
        _fake.EndsAtOnce = true;
        using ICudaStream stream = _runtime.CreateStream();
        using CudaMemory memory = _runtime.Allocate(64);
        KernelFunction function = new("attend", "attend", 128, 0, static () => "text");
        byte[] parameters = new byte[200];
        Allocations.AssertNone(() =>
        {
            fixed (byte* from = parameters) stream.CopyToDevice(new(memory, 0), from, 64);
            stream.Launch(new(function, 1, 1, 1, parameters));
            long number = stream.EndSubmission();
            _ = stream.Completed;
            stream.Wait(number);
        });
    }

    /// <summary>What was asked, without contexts.</summary>
    private string[] Calls() => [.. _fake.Take().Where(static line => !line.StartsWith("push", StringComparison.Ordinal) && !line.StartsWith("pop", StringComparison.Ordinal))];
}
