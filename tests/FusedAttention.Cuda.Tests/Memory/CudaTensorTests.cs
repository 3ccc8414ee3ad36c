using System.Runtime.CompilerServices;
using FusedAttention.Cuda.Memory;
using FusedAttention.Cuda.Tests.Fakes;
using Xunit;

namespace FusedAttention.Cuda.Tests.Memory;

/// <summary>Shapes and views of tensors, their copies, and when memory goes back.</summary>
public sealed class CudaTensorTests : IDisposable
{
    private readonly RecordingRuntime _runtime = new();
    private readonly CudaDevice _device;

    public CudaTensorTests() => _device = new(_runtime);

    public void Dispose() => _device.Close();

    [Fact]
    public void Elements_are_copied_in_and_out()
    {
        using CudaTensor<float> tensor = _device.Allocate<float>(2, 3, 4);
        Assert.Equal([2, 3, 4], tensor.Lengths.ToArray());
        Assert.Equal([12, 4, 1], tensor.Strides.ToArray());
        Assert.Equal((3, (nint)24, true, typeof(float), _device), (tensor.Rank, tensor.FlattenedLength, tensor.IsDense, tensor.ElementType, tensor.Device));
        Assert.Equal("[2, 3, 4] of Single", tensor.ToString());
        float[] values = [.. Enumerable.Range(0, 24).Select(static i => (float)i)], copy = new float[24];
        tensor.CopyFrom(values);
        tensor.CopyTo(copy);
        Assert.Equal(values, copy);

        // A part that is dense is copied on its own.
        tensor.Slice(1..2, .., ..).CopyTo(copy.AsSpan(0, 12));
        Assert.Equal(values[12..], copy[..12]);
        tensor.Slice(0..1, 1..2, ..).Reshape(4).CopyFrom([-1, -2, -3, -4]);
        tensor.CopyTo(copy);
        Assert.Equal([3, -1, -2, -3, -4, 8], copy[3..9]);
        Assert.Equal(tensor.DevicePointer + 16, tensor.Slice(0..1, 1..2, ..).DevicePointer);

        using CudaTensor<Half> nothing = _device.Allocate<Half>(3, 0);
        nothing.CopyFrom([]);
        nothing.CopyTo([]);
    }

    [Fact]
    public void Copies_that_make_no_sense_are_refused()
    {
        using CudaTensor<float> tensor = _device.Allocate<float>(4, 6);
        Assert.Contains("23 elements", Assert.Throws<ArgumentException>("source", () => tensor.CopyFrom(new float[23])).Message, StringComparison.Ordinal);
        Assert.Throws<ArgumentException>("destination", () => tensor.CopyTo(new float[25]));
        CudaTensor<float> columns = tensor.Slice(.., 0..2);
        string message = Assert.Throws<InvalidOperationException>(() => columns.CopyFrom(new float[8])).Message;
        Assert.Contains("[4, 2] with strides [6, 1], is not dense, so it cannot be copied", message, StringComparison.Ordinal);
        Assert.Throws<InvalidOperationException>(() => columns.CopyTo(new float[8]));
        Assert.Throws<InvalidOperationException>(() => columns.Reshape(8));

        using var other = new RecordingRuntime();
        var stranger = new CudaDevice(other);
        using CudaStream foreign = stranger.CreateStream();
        Assert.Throws<ArgumentException>("stream", () => tensor.CopyFrom(new float[24], foreign));
        Assert.Throws<ArgumentException>("stream", () => tensor.CopyTo(new float[24], foreign));
        tensor.Dispose();
        Assert.Throws<ObjectDisposedException>(() => tensor.CopyFrom(new float[24]));
        Assert.Throws<ObjectDisposedException>(() => tensor.CopyTo(new float[24]));
        Assert.Throws<ObjectDisposedException>(() => tensor.DevicePointer);
    }

    [Fact]
    public void Views_share_the_memory_and_stay_inside_of_it()
    {
        using CudaTensor<int> tensor = _device.Allocate<int>(4, 5, 6);
        CudaTensor<int> slice = tensor.Slice(1..3, 2..3, 1..5);
        Assert.Equal([2, 1, 4], slice.Lengths.ToArray());
        Assert.Equal([30, 0, 1], slice.Strides.ToArray());
        Assert.Equal(4 * (30 + 12 + 1), slice.Offset);
        Assert.Same(tensor.Memory, slice.Memory);
        Assert.Equal((ulong)tensor.DevicePointer + (ulong)slice.Offset, slice.Address);

        // Heads outside of tokens: [6, 4, 5] over [4, 5, 6].
        Assert.Equal([1, 30, 6], tensor.View(0, [6, 4, 5], [1, 30, 6]).Strides.ToArray());
        Assert.Equal(0, tensor.Slice(4..4, .., ..).Offset);
        Assert.Equal(0, tensor.View(120, [0], [1]).Offset);
        Assert.Throws<ArgumentException>("start", () => tensor.View(121, [1], [1]));
        Assert.Throws<ArgumentException>("start", () => tensor.View(-1, [1], [1]));
        Assert.Throws<ArgumentException>("strides", () => tensor.View(1, [4, 30], [30, 1]));
        Assert.Throws<ArgumentException>("strides", () => slice.View(0, [35], [1]));
        Assert.Throws<ArgumentOutOfRangeException>(() => tensor.Slice(0..5, .., ..));
        Assert.Throws<ArgumentException>("ranges", () => tensor.Slice(..));
        Assert.Throws<ArgumentException>("lengths", () => tensor.Reshape(5, 5));
    }

    [Fact]
    public void Allocations_that_make_no_sense_are_refused()
    {
        Assert.Throws<ArgumentException>("lengths", () => _device.Allocate<float>());
        Assert.Throws<ArgumentException>("lengths", () => _device.Allocate<float>(3, -1));
        Assert.Throws<ArgumentException>("lengths", () => _device.Allocate<float>(nint.MaxValue));
        Assert.Contains("67108864", Assert.Throws<CudaException>(() => _device.Allocate<float>(1 << 24, 2)).Message, StringComparison.Ordinal);
        Assert.Equal(0, _runtime.Living);
    }

    [Fact]
    public unsafe void Wrapped_memory_is_used_in_place_and_left_alone()
    {
        float[] host = new float[16];
        fixed (float* first = host)
        {
            nint pointer = (nint)first;
            Assert.Throws<ArgumentException>("devicePointer", () => _device.Wrap<float>(0, 8));
            Assert.Throws<ArgumentException>("devicePointer", () => _device.Wrap<float>(pointer + 2, 8));
            Assert.Throws<ArgumentException>("lengths", () => _device.Wrap<float>(pointer));
            Assert.Throws<ArgumentException>("strides", () => _device.Wrap<float>(pointer, [2, 4], [-1, 1]));
            Assert.Throws<ArgumentException>("strides", () => _device.Wrap<float>(pointer, [2, 4], [1]));
            Assert.Throws<ArgumentException>("strides", () => _device.Wrap<float>(pointer, [2, 4], [nint.MaxValue, 1]));
            Assert.Equal(0, _device.Wrap<float>(0, 0).DevicePointer);

            CudaTensor<float> tensor = _device.Wrap<float>(pointer, 2, 8);
            tensor.CopyFrom([.. Enumerable.Range(0, 16).Select(static i => (float)i)]);
            Assert.Equal(15, host[15]);
            CudaTensor<float> strided = _device.Wrap<float>(pointer, [2, 4], [8, 1]);
            Assert.Equal((pointer, 12), (strided.DevicePointer, (int)strided.Layout.Extent));
            strided.Slice(1..2, ..).CopyTo(host.AsSpan(0, 4));
            Assert.Equal([8, 9, 10, 11], host[..4]);
            int waits = _runtime.Streams[0].Waits.Count;
            tensor.CopyFrom(new float[16]);
            tensor.Dispose();
            strided.Dispose();
            Assert.Equal(waits, _runtime.Streams[0].Waits.Count);
            Assert.Throws<ObjectDisposedException>(() => tensor.Slice(.., ..));
        }

        Assert.Equal(0, _runtime.Allocations);
    }

    [Fact]
    public void Memory_goes_back_when_all_streams_are_done_with_it()
    {
        using CudaStream first = _device.CreateStream(), second = _device.CreateStream();
        CudaTensor<float> tensor = _device.Allocate<float>(8);
        tensor.CopyFrom(new float[8], first);
        Use(second, new MemoryUse(tensor.Memory, IsWritten: false));
        int living = _runtime.Living;
        tensor.Dispose();
        tensor.Dispose();
        Assert.Equal((living, 1), (_runtime.Living, _device.Retired.Count));
        _runtime.Streams[0].End(1);
        _device.Retired.Collect();
        Assert.Equal((living, 1), (_runtime.Living, _device.Retired.Count));
        _runtime.Streams[1].End(1);
        using CudaTensor<float> next = _device.Allocate<float>(8);
        Assert.Equal((living, 0), (_runtime.Living, _device.Retired.Count));

        // What no stream uses goes at once.
        _device.Allocate<float>(8).Dispose();
        Assert.Equal((living, 0), (_runtime.Living, _device.Retired.Count));
        Assert.All(_runtime.Streams, static stream => Assert.Empty(stream.Waits));
    }

    [Fact]
    public void Memory_that_a_call_holds_outlives_its_tensor()
    {
        CudaTensor<float> tensor = _device.Allocate<float>(8);
        tensor.Memory.Hold();
        tensor.Dispose();
        Assert.Equal(1, _runtime.Living);
        tensor.Memory.DangerousRelease();
        Assert.Equal(0, _runtime.Living);
    }

    [Fact]
    public void An_allocation_that_fails_waits_for_what_was_disposed()
    {
        CudaTensor<float> tensor = _device.Allocate<float>(1 << 20);
        tensor.CopyFrom(new float[1 << 20]);
        _runtime.Capacity = _runtime.LivingBytes;
        Assert.Throws<CudaException>(() => _device.Allocate<float>(1 << 19));
        Assert.Equal(0, _runtime.Synchronizations);
        tensor.Dispose();
        Assert.Equal(1, _device.Retired.Count);
        using CudaTensor<float> next = _device.Allocate<float>(1 << 19);
        Assert.Equal((0, 1), (_device.Retired.Count, _runtime.Synchronizations));
    }

    [Fact]
    public void Views_end_with_the_tensor_that_was_allocated()
    {
        CudaTensor<float> tensor = _device.Allocate<float>(8);
        CudaTensor<float> view = tensor.Slice(1..3);
        view.Dispose();
        view.CopyFrom([1, 2]);
        tensor.Dispose();
        foreach (Action use in (Action[])[() => view.CopyFrom([1, 2]), () => view.Slice(0..1), () => view.Reshape(2, 1), () => view.View(0, [1], [1]), view.Wait])
            Assert.Throws<ObjectDisposedException>(use);
    }

    [Fact]
    public void Tensors_that_nobody_disposes_are_collected()
    {
        Forget(_device);
        for (int i = 0; i < 3; i++)
        {
            GC.Collect();
            GC.WaitForPendingFinalizers();
        }

        Assert.Equal(0, _runtime.Living);

        [MethodImpl(MethodImplOptions.NoInlining)]
        static void Forget(CudaDevice device) => device.Allocate<float>(100).Slice(0..3);
    }

    [Fact]
    public void A_device_says_what_it_is()
    {
        Assert.Equal("Recorder (compute capability 9.0, device 0)", _device.ToString());
        Assert.Equal(("Recorder", 0, new Version(9, 0), 132, 1L << 26, 1L << 26), (_device.Name, _device.Ordinal, _device.ComputeCapability, _device.Multiprocessors, _device.MemoryBytes, _device.MaxTensorBytes));
        Assert.Same(_device.DefaultStream, _device.DefaultStream);
        _device.Synchronize();
        Assert.Equal(1, _runtime.Synchronizations);
    }

    private static void Use(CudaStream stream, params MemoryUse[] uses)
    {
        using Submission work = new(stream, uses);
        work.Begin();
        work.End();
    }
}
