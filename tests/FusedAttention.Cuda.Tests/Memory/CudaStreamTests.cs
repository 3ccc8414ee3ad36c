using FusedAttention.Cuda.Memory;
using FusedAttention.Cuda.Tests.Fakes;
using Xunit;

namespace FusedAttention.Cuda.Tests.Memory;

/// <summary>Streams as callers have them.</summary>
public sealed class CudaStreamTests : IDisposable
{
    private readonly RecordingRuntime _runtime = new();
    private readonly CudaDevice _device;

    public CudaStreamTests() => _device = new(_runtime);

    public void Dispose() => _device.Close();

    [Fact]
    public void Synchronizing_waits_for_what_anybody_has_queued()
    {
        using CudaStream stream = _device.WrapStream(0x77);
        Assert.Equal((0x77, _device), (stream.Handle, stream.Device));
        Assert.Equal("stream 0x77 of Recorder (compute capability 9.0, device 0)", stream.ToString());
        stream.Synchronize();
        SubmissionTests.Queue(stream);
        stream.Synchronize();
        Assert.Equal([1, 3], _runtime.Streams[0].Waits);
        Assert.Equal(3, stream.Completed);
        Assert.False(_runtime.Streams[0].IsOwned);
    }

    [Fact]
    public void Disposing_waits_and_gives_everything_back_once()
    {
        CudaStream stream = _device.CreateStream();
        using CudaTensor<float> x = _device.Allocate<float>(8);
        using (Submission work = new(stream, []))
        {
            work.Transient.Take(16);
            work.Pinned.Take(16);
            work.Begin();
            work.Counters(16);
            work.End();
        }

        CudaTensor<float> y = _device.Allocate<float>(8);
        SubmissionTests.Queue(stream, SubmissionTests.Writes(y));
        y.Dispose();
        Assert.Equal(5, _runtime.Living);
        Submission late = new(stream, []);
        late.Transient.Take(16);
        Assert.Equal(6, _runtime.Living);
        stream.Dispose();
        stream.Dispose();
        RecordingStream queue = Assert.Single(_runtime.Streams);
        Assert.Equal([2], queue.Waits);
        Assert.True(queue.IsDisposed && queue.IsOwned);
        Assert.Equal(2, _runtime.Living);           // x, and what was taken and not begun
        late.Dispose();
        Assert.Equal(1, _runtime.Living);
        Assert.Throws<ObjectDisposedException>(stream.Synchronize);
        Assert.Throws<ObjectDisposedException>(() => x.CopyFrom(new float[8], stream));
        Assert.Throws<ObjectDisposedException>(() => new Submission(stream, []).IsCapturing);
    }

    [Fact]
    public void Kernels_are_loaded_ahead_and_failures_come_through()
    {
        Cuda.Launching.KernelFunction function = new("a", "a", 32, 0, static () => "");
        _runtime.PrepareFailure = new CudaException("ptxas");
        Assert.Throws<CudaException>(() => _device.Prepare([function]));
        _device.Prepare([function]);
        Assert.Equal([function], _runtime.Prepared);
    }

    [Fact]
    public void Streams_of_several_threads_do_not_disturb_each_other()
    {
        using CudaTensor<int> shared = _device.Allocate<int>(16);
        _runtime.EndsAtOnce = true;
        CudaStream[] streams = [.. Enumerable.Range(0, 3).Select(_ => _device.CreateStream())];
        BackgroundThread[] threads =
        [
            .. streams.Select((stream, i) => BackgroundThread.Start(() =>
            {
                int[] values = new int[64], read = new int[64];
                for (int round = 0; round < 200; round++)
                {
                    using CudaTensor<int> own = _device.Allocate<int>(64);
                    values.AsSpan().Fill((1000 * i) + round);
                    own.CopyFrom(values, stream);
                    SubmissionTests.Queue(stream, SubmissionTests.Reads(shared), SubmissionTests.Writes(own));
                    own.CopyTo(read, stream);
                    Assert.Equal(values, read);
                }
            })),
        ];
        foreach (BackgroundThread thread in threads) thread.Join();
        foreach (CudaStream stream in streams) stream.Dispose();
        Assert.Equal((1, 0), (_runtime.Living, _device.Retired.Count));
    }
}

/// <summary>Tests that measure the whole process run without company.</summary>
[CollectionDefinition(Name, DisableParallelization = true)]
public sealed class AloneDefinition
{
    public const string Name = "alone";
}

/// <summary>In steady state nothing of a call's way to a stream allocates.</summary>
[Collection(AloneDefinition.Name)]
public sealed class SubmissionAllocationTests
{
    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void Submissions_allocate_nothing(bool endsAtOnce)
    {
        using var runtime = new RecordingRuntime { Records = false, EndsAtOnce = endsAtOnce };
        var device = new CudaDevice(runtime);
        using CudaStream first = device.CreateStream(), second = device.CreateStream();
        using CudaTensor<float> x = device.Allocate<float>(64), y = device.Allocate<float>(64);
        MemoryUse[] uses = [SubmissionTests.Reads(x), SubmissionTests.Writes(y)];
        float[] values = new float[64];
        byte[] parameters = new byte[64];
        var function = new Cuda.Launching.KernelFunction("a", "a", 32, 0, static () => "");
        Allocations.AssertNone(() =>
        {
            x.CopyFrom(values, second);
            using (Submission work = new(first, uses))
            {
                Devices.MemoryPlace tables = work.Pinned.Take(100), scratch = work.Transient.Take(100);
                work.Begin();
                work.CopyToDevice(scratch, tables, 100);
                work.Launch(new(function, 1, 1, 1, parameters));
                work.Counters(8);
                work.End();
            }

            y.CopyTo(values, second);
            first.Synchronize();
        });
    }
}
