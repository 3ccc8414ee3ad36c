using FusedAttention.Cuda.Launching;
using FusedAttention.Cuda.Memory;
using FusedAttention.Cuda.Tests.Fakes;
using FusedAttention.Devices;
using Xunit;

namespace FusedAttention.Cuda.Tests.Memory;

/// <summary>Work on its way to streams: what is queued, what waits for what, and whose memory is whose meanwhile.</summary>
public sealed class SubmissionTests : IDisposable
{
    private static readonly KernelFunction Attend = new("attend", "attend Float32", threads: 128, sharedBytes: 1024, static () => "");

    private readonly RecordingRuntime _runtime = new();
    private readonly CudaDevice _device;

    public SubmissionTests() => _device = new(_runtime);

    public void Dispose() => _device.Close();

    [Fact]
    public unsafe void What_a_call_consists_of_is_queued_in_order()
    {
        using CudaTensor<float> tensor = _device.Allocate<float>(8);
        MemoryUse[] uses = [new(tensor.Memory, IsWritten: true)];
        long number;
        using (Submission work = new(_device.DefaultStream, uses))
        {
            MemoryPlace tables = work.Pinned.Take(16), scratch = work.Transient.Take(300), more = work.Transient.Take(8);
            Assert.True(tables.Memory.Pointer is not null && scratch.Memory.Pointer is null && more == new MemoryPlace(scratch.Memory, 512));
            new Span<byte>(tables.Memory.Pointer + tables.Offset, 16).Fill(7);
            work.Begin();
            work.CopyToDevice(scratch, tables, 16);
            work.Clear(more, 8);
            work.Copy(tensor.Place, scratch, 12);
            work.Launch(new KernelLaunch(Attend, 3, 2, 1, [1, 2, 3, 4]));
            number = work.End();
        }

        float[] read = new float[8];
        tensor.CopyTo(read);
        Assert.Equal(BitConverter.Int32BitsToSingle(0x07070707), read[2]);
        RecordingStream stream = Assert.Single(_runtime.Streams);
        Assert.Equal(1, number);
        Assert.Equal([StreamAction.CopyToDevice, StreamAction.Clear, StreamAction.Copy, StreamAction.Launch, StreamAction.CopyToHost], stream.Operations.Select(static o => o.Action));
        Assert.Equal([1, 1, 1, 1, 2], stream.Operations.Select(static o => o.Submission));
        StreamOperation launch = stream.Operations[3];
        Assert.Equal((Attend, (3u, 2u, 1u)), (launch.Function, launch.Grid));
        Assert.Equal([1, 2, 3, 4], launch.Parameters);
        Assert.Equal([2], stream.Waits);
    }

    [Fact]
    public void Memory_of_a_call_is_used_again_when_its_submission_has_ended()
    {
        CudaStream stream = _device.DefaultStream;
        Assert.NotEqual(TakeOne(), TakeOne());
        Assert.Equal((2, 2), (stream.Transient.Chunks, stream.Pinned.Chunks));
        _runtime.Streams[0].End(2);
        TakeOne();
        Assert.Equal((2, 2), (stream.Transient.Chunks, stream.Pinned.Chunks));

        // What was not begun is idle at once.
        using (Submission unused = new(stream, [])) unused.Transient.Take(16);
        Assert.Equal(2, stream.Transient.Chunks);

        DeviceMemory TakeOne()
        {
            using Submission work = new(stream, []);
            DeviceMemory taken = work.Transient.Take(16).Memory;
            work.Pinned.Take(16);
            work.Begin();
            work.End();
            return taken;
        }
    }

    [Fact]
    public void Work_waits_on_the_device_for_work_of_other_streams_that_it_must_not_overtake()
    {
        using CudaStream a = _device.CreateStream(), b = _device.CreateStream(), c = _device.CreateStream();
        using CudaTensor<float> x = _device.Allocate<float>(8), y = _device.Allocate<float>(8);
        Queue(a, Writes(x));                                    // a1
        Queue(a, Reads(x));                                     // a2
        Queue(b, Reads(x), Writes(y));                          // b1: after a1, which wrote x
        Queue(b, Reads(x));                                     // b2: nothing new
        Assert.Equal([(0, 1)], Awaited(b));
        Queue(c, Reads(y));                                     // c1: after b1
        Assert.Equal([(1, 1)], Awaited(c));
        Queue(c, Writes(x));                                    // c2: after a2 and b2, which read x
        Assert.Equal([(1, 1), (0, 2), (1, 2)], Awaited(c));
        Queue(a, Reads(y));                                     // a3: after b1
        Queue(a, Writes(y));                                    // a4: after c1 too
        Assert.Equal([(1, 1), (2, 1)], Awaited(a));
        Assert.All(_runtime.Streams, static stream => Assert.Empty(stream.Waits));
        Assert.True(x.IsPending);

        // What has ended is not waited for.
        _runtime.Synchronize();
        Assert.False(x.IsPending || y.IsPending);
        Queue(b, Writes(x), Writes(y));
        Assert.Equal([(0, 1)], Awaited(b));
    }

    [Fact]
    public void Waiting_for_a_tensor_waits_for_the_streams_that_use_it()
    {
        using CudaStream a = _device.CreateStream(), b = _device.CreateStream(), c = _device.CreateStream();
        using CudaTensor<float> x = _device.Allocate<float>(8);
        Queue(a, Writes(x));
        Queue(b, Reads(x));
        Queue(c);
        x.Memory.AwaitWrites();
        Assert.Equal([[1], [], []], Waits());
        x.Wait();
        Assert.Equal([[1, 1], [1], []], Waits());
        Queue(b, Writes(x));

        // The copy waits on the device, and the host for the copy.
        x.CopyTo(new float[8], c);
        Assert.Equal([(1, 2)], Awaited(c));
        Assert.Equal([[1, 1], [1], [2]], Waits());

        long[][] Waits() => [.. _runtime.Streams.Select(static stream => stream.Waits.ToArray())];
    }

    [Fact]
    public void A_tensor_that_many_streams_read_remembers_them_all()
    {
        CudaStream[] streams = [.. Enumerable.Range(0, 5).Select(_ => _device.CreateStream())];
        using CudaTensor<float> x = _device.Allocate<float>(8);
        foreach (CudaStream stream in streams) Queue(stream, Reads(x));
        Queue(_device.DefaultStream, Writes(x));
        Assert.Equal([(0, 1), (1, 1), (2, 1), (3, 1), (4, 1)], Awaited(_device.DefaultStream));
        foreach (CudaStream stream in streams) stream.Dispose();

        // Streams that are gone hold nobody up.
        Queue(_device.DefaultStream, Writes(x));
        x.Wait();
        Assert.Equal(5, Awaited(_device.DefaultStream).Length);
    }

    [Fact]
    public void A_call_that_fails_half_way_keeps_its_memory_until_what_was_queued_is_done()
    {
        using CudaTensor<float> x = _device.Allocate<float>(8);
        _runtime.OnLaunch = static (_, _, _) => throw new CudaException("refused");
        Assert.Throws<CudaException>(() => Launch(x));
        Assert.True(x.IsPending);
        Assert.Equal(1, _runtime.Streams[0].Submitted);
        _runtime.OnLaunch = null;
        Launch(x);
        Assert.Equal(2, _device.DefaultStream.Transient.Chunks);

        // The stream is free again for other threads.
        BackgroundThread.Start(() => Launch(x)).Join();

        void Launch(CudaTensor<float> tensor)
        {
            MemoryUse[] uses = [Writes(tensor)];
            using Submission work = new(_device.DefaultStream, uses);
            work.Transient.Take(16);
            work.Begin();
            work.Launch(new KernelLaunch(Attend, 1, 1, 1, []));
            work.End();
        }
    }

    [Fact]
    public void Work_whose_submission_cannot_be_ended_has_ended_with_the_next_one()
    {
        CudaStream stream = _device.DefaultStream;
        using CudaTensor<float> x = _device.Allocate<float>(8);
        _runtime.Streams[0].EndFailure = new CudaException("no event");
        Assert.Throws<CudaException>(() => Queue(stream, Writes(x)));
        Assert.True(x.IsPending);
        using CudaStream other = _device.CreateStream();
        Queue(other, Writes(x));
        Assert.Empty(Awaited(other));
        x.Wait();
        Assert.False(x.IsPending);
        Assert.Equal([1], _runtime.Streams[0].Waits);
    }

    [Fact]
    public void Steps_out_of_order_are_refused()
    {
        Assert.Throws<InvalidOperationException>(() =>
        {
            using Submission work = new(_device.DefaultStream, []);
            work.Launch(new KernelLaunch(Attend, 1, 1, 1, []));
        });
        Assert.Throws<InvalidOperationException>(() =>
        {
            using Submission work = new(_device.DefaultStream, []);
            work.End();
        });
        Assert.Throws<InvalidOperationException>(() =>
        {
            using Submission work = new(_device.DefaultStream, []);
            work.Begin();
            work.Begin();
        });
        BackgroundThread.Start(_device.DefaultStream.Synchronize).Join();
    }

    [Fact]
    public void Counters_are_cleared_once_and_grow()
    {
        CudaStream stream = _device.DefaultStream;
        MemoryPlace first = Take(100), second = Take(64 << 10), grown = Take((64 << 10) + 1);
        Assert.Equal(first, second);
        Assert.NotEqual(first, grown);
        Assert.Equal(grown, Take(128 << 10));
        Assert.Equal([64 << 10, 128 << 10], _runtime.Streams[0].Operations.Where(static o => o.Action == StreamAction.Clear).Select(static o => o.Bytes));
        int living = _runtime.Living;
        stream.Dispose();
        Assert.Equal(2, living - _runtime.Living);

        MemoryPlace Take(long bytes)
        {
            using Submission work = new(stream, []);
            work.Begin();
            MemoryPlace place = work.Counters(bytes);
            work.End();
            return place;
        }
    }

    [Fact]
    public void Captured_calls_keep_their_memory_and_are_not_counted()
    {
        using CudaStream other = _device.CreateStream(), stream = _device.CreateStream();
        using CudaTensor<float> x = _device.Allocate<float>(8);
        Queue(other, Writes(x));
        RecordingStream queue = _runtime.Streams[1];
        queue.IsCapturing = true;
        List<MemoryPlace> taken = [];
        for (int call = 0; call < 2; call++)
        {
            MemoryUse[] uses = [Writes(x)];
            using Submission work = new(stream, uses);
            Assert.True(work.IsCapturing);
            taken.Add(work.Transient.Take(100));
            taken.Add(work.Pinned.Take(100));
            work.Begin();
            taken.Add(work.Counters(40));
            Assert.Equal(0, work.End());
        }

        Assert.Equal(6, taken.Distinct().Count());
        Assert.Equal(2, taken.Select(static place => place.Memory).Distinct().Count());
        Assert.Equal([StreamAction.Clear, StreamAction.Clear], queue.Operations.Select(static o => o.Action));
        Assert.Contains("being captured", Assert.Throws<InvalidOperationException>(() => x.CopyFrom(new float[8], stream)).Message, StringComparison.Ordinal);
        Assert.Throws<InvalidOperationException>(() => x.CopyTo(new float[8], stream));
        Assert.Throws<InvalidOperationException>(stream.Synchronize);

        // Calls afterwards get memory of their own.
        queue.IsCapturing = false;
        using (Submission work = new(stream, [])) Assert.DoesNotContain(work.Transient.Take(16).Memory, taken.Select(static place => place.Memory));
        int living = _runtime.Living;
        stream.Dispose();
        Assert.Equal(3, living - _runtime.Living);
    }

    [Fact]
    public void Errors_are_thrown_by_what_waits_or_queues_next()
    {
        using CudaTensor<float> x = _device.Allocate<float>(8);
        CudaStream stream = _device.CreateStream();
        Queue(stream, Writes(x));
        _runtime.Broken = "cuEventQuery: CUDA_ERROR_ILLEGAL_ADDRESS (700): an illegal memory access was encountered";
        Assert.Contains("ILLEGAL_ADDRESS", Assert.Throws<CudaException>(x.Wait).Message, StringComparison.Ordinal);
        Assert.Throws<CudaException>(() => x.CopyTo(new float[8]));
        Assert.Throws<CudaException>(stream.Synchronize);
        Assert.Throws<CudaException>(() => _device.Allocate<float>(8));
        stream.Dispose();       // says nothing more

        // The memory of what failed goes back.
        _runtime.Streams[0].End(1);
        int living = _runtime.Living;
        x.Dispose();
        Assert.Equal(1, living - _runtime.Living);
    }

    internal static MemoryUse Reads(CudaTensor tensor) => new(tensor.Memory, IsWritten: false);

    internal static MemoryUse Writes(CudaTensor tensor) => new(tensor.Memory, IsWritten: true);

    internal static void Queue(CudaStream stream, params MemoryUse[] uses)
    {
        using Submission work = new(stream, uses);
        work.Begin();
        work.End();
    }

    /// <summary>Which streams, by the order in which they were made, and which of their submissions a stream was told to wait for.</summary>
    private (int Stream, long Submission)[] Awaited(CudaStream stream) =>
    [
        .. ((RecordingStream)stream.Queue).Operations.Where(static o => o.Awaited is not null).Select(o => (_runtime.Streams.IndexOf(o.Awaited!.Value.Stream), o.Awaited.Value.Submission)),
    ];
}
