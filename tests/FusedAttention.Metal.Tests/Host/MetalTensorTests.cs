using System.Runtime.InteropServices;
using FusedAttention.Devices;
using FusedAttention.Metal.Emulation;
using FusedAttention.Metal.Launching;
using FusedAttention.Metal.Memory;
using Xunit;

namespace FusedAttention.Metal.Tests.Host;

/// <summary>Shapes and views of tensors, what waits for what, and when memory goes back.</summary>
public sealed class MetalTensorTests : IDisposable
{
    private readonly RecordingRuntime _runtime = new();
    private readonly MetalDevice _device;

    public MetalTensorTests() => _device = new(_runtime);

    public void Dispose() => _runtime.Dispose();

    [Fact]
    public void Spans_are_the_memory_itself()
    {
        using MetalTensor<float> tensor = _device.Allocate<float>(2, 3, 4);
        Assert.Equal([2, 3, 4], tensor.Lengths.ToArray());
        Assert.Equal([12, 4, 1], tensor.Strides.ToArray());
        Assert.Equal((3, (nint)24, true, typeof(float)), (tensor.Rank, tensor.FlattenedLength, tensor.IsDense, tensor.ElementType));
        Span<float> span = tensor.AsSpan();
        for (int i = 0; i < 24; i++) span[i] = i;
        Assert.Equal(23, tensor.AsReadOnlyTensorSpan()[1, 2, 3]);
        tensor.AsTensorSpan()[1, 0, 2] = -1;
        Assert.Equal(-1, tensor.AsReadOnlySpan()[14]);
        Assert.Equal("[2, 3, 4] of Single", tensor.ToString());

        float[] copy = new float[24];
        tensor.CopyTo(copy);
        Assert.Equal(-1, copy[14]);
        tensor.CopyFrom(new float[24]);
        Assert.Equal(0, span[23]);
        Assert.Throws<ArgumentException>(() => tensor.CopyFrom(new float[23]));
        Assert.Throws<ArgumentException>(() => tensor.CopyTo(new float[25]));
    }

    [Fact]
    public void Views_share_the_memory()
    {
        using MetalTensor<int> tensor = _device.Allocate<int>(4, 5, 6);
        for (int i = 0; i < 120; i++) tensor.AsSpan()[i] = i;

        MetalTensor<int> slice = tensor.Slice(1..3, 2..3, 1..5);
        Assert.Equal([2, 1, 4], slice.Lengths.ToArray());
        Assert.Equal([30, 0, 1], slice.Strides.ToArray());
        Assert.False(slice.IsDense);
        Assert.Equal(30 + 12 + 1, slice.AsReadOnlyTensorSpan()[0, 0, 0]);
        Assert.Equal(60 + 12 + 4, slice.AsReadOnlyTensorSpan()[1, 0, 3]);
        slice.AsTensorSpan()[1, 0, 0] = -7;
        Assert.Equal(-7, tensor.AsReadOnlySpan()[60 + 12 + 1]);

        MetalTensor<int> batch = tensor.Slice(2..3, .., ..);
        Assert.True(batch.IsDense);
        Assert.Equal(60, batch.Reshape(30).AsReadOnlySpan()[0]);
        Assert.Equal(65, batch.Slice(^1.., .., ..).Reshape(5, 6).AsReadOnlyTensorSpan()[0, 5]);

        // Heads outside of tokens: [6, 4, 5] over [4, 5, 6].
        MetalTensor<int> permuted = tensor.View(0, [6, 4, 5], [1, 30, 6]);
        Assert.Equal((3 * 30) + (4 * 6) + 5, permuted.AsReadOnlyTensorSpan()[5, 3, 4]);
        Assert.Equal(7, tensor.View(7, [3], [0]).AsReadOnlyTensorSpan()[2]);

        MetalTensor<int> nothing = tensor.Slice(4..4, .., ..);
        Assert.Equal(((nint)0, 0L), (nothing.FlattenedLength, nothing.Offset));      // a buffer has no place at its end
        Assert.True(nothing.AsTensorSpan().IsEmpty);
        Assert.Equal(0, tensor.View(120, [0], [1]).Offset);
        Assert.True(_device.Allocate<int>(3, 0).AsReadOnlyTensorSpan().IsEmpty);
        Assert.Equal(1, Assert.Single(_device.Allocate<int>(1).AsSpan().ToArray().Select(static _ => 1)));
    }

    [Fact]
    public void Views_that_reach_outside_are_refused()
    {
        using MetalTensor<int> tensor = _device.Allocate<int>(4, 6);
        Assert.Contains("24 elements", Assert.Throws<ArgumentException>("start", () => tensor.View(25, [1], [1])).Message, StringComparison.Ordinal);
        Assert.Throws<ArgumentException>("start", () => tensor.View(-1, [1], [1]));
        Assert.Contains("reaches over 25 elements, but there are 24", Assert.Throws<ArgumentException>("strides", () => tensor.View(0, [25], [1])).Message, StringComparison.Ordinal);
        Assert.Throws<ArgumentException>("strides", () => tensor.View(1, [4, 6], [6, 1]));
        Assert.Throws<ArgumentException>("strides", () => tensor.View(0, [2, 2], [nint.MaxValue, nint.MaxValue]));
        Assert.Throws<ArgumentException>("strides", () => tensor.View(0, [2], [-1]));
        Assert.Throws<ArgumentException>("strides", () => tensor.View(0, [2], [1, 1]));
        Assert.Throws<ArgumentException>("lengths", () => tensor.View(0, [-2], [1]));
        Assert.Throws<ArgumentException>("lengths", () => tensor.View(0, [nint.MaxValue, 3], [0, 0]));
        Assert.Throws<ArgumentOutOfRangeException>(() => tensor.Slice(0..5, ..));
        Assert.Throws<ArgumentException>("ranges", () => tensor.Slice(..));
        Assert.Throws<ArgumentException>("lengths", () => tensor.Reshape(5, 5));
        Assert.Throws<InvalidOperationException>(() => tensor.Slice(.., 0..2).Reshape(8));
        Assert.Throws<InvalidOperationException>(() => tensor.Slice(.., 0..2).AsSpan());

        // A view of a view stays inside of it.
        MetalTensor<int> rows = tensor.Slice(1..3, ..);
        Assert.Throws<ArgumentException>("strides", () => rows.View(0, [13], [1]));
        Assert.Equal(12, rows.View(0, [12], [1]).FlattenedLength);
    }

    [Fact]
    public void Allocations_that_make_no_sense_are_refused()
    {
        Assert.Throws<ArgumentException>("lengths", () => _device.Allocate<float>());
        Assert.Throws<ArgumentException>("lengths", () => _device.Allocate<float>(3, -1));
        Assert.Throws<ArgumentException>("lengths", () => _device.Allocate<float>(nint.MaxValue));
        Assert.Contains("67108864", Assert.Throws<MetalException>(() => _device.Allocate<float>(1 << 24, 2)).Message, StringComparison.Ordinal);
        Assert.Equal(0, _runtime.Living);
    }

    [Fact]
    public void Reading_waits_for_writes_and_writing_for_all_use()
    {
        using MetalTensor<float> input = _device.Allocate<float>(8), output = _device.Allocate<float>(8);
        Assert.False(input.IsPending);
        Queue(new MemoryUse(input.Memory, IsWritten: false), new MemoryUse(output.Memory, IsWritten: true));
        Queue(new MemoryUse(output.Memory, IsWritten: false));
        Assert.True(input.IsPending && output.IsPending);

        input.AsReadOnlyTensorSpan();
        input.AsReadOnlySpan();
        input.AsTensorSpan(wait: false);
        input.AsSpan(wait: false);
        output.AsReadOnlyTensorSpan(wait: false);
        output.AsReadOnlySpan(wait: false);
        Assert.Empty(_runtime.Waits);

        output.AsReadOnlySpan();
        Assert.Equal([1], _runtime.Waits);
        Assert.False(input.IsPending);
        output.Slice(2..3).AsReadOnlyTensorSpan();
        Assert.Equal([1], _runtime.Waits);
        output.Slice(2..3).AsTensorSpan();
        Assert.Equal([1, 2], _runtime.Waits);
        input.AsSpan();
        Assert.Equal([1, 2, 1], _runtime.Waits);
        input.Wait();
        Assert.Equal(3, _runtime.Waits.Count);

        Queue(new MemoryUse(input.Memory, IsWritten: false));
        _device.Synchronize();
        Assert.Equal([1, 2, 1, 3], _runtime.Waits);
    }

    [Fact]
    public void A_failure_is_thrown_once_by_each_tensor_that_it_concerns()
    {
        using MetalTensor<float> output = _device.Allocate<float>(8), other = _device.Allocate<float>(8);
        _runtime.Failing.Add(1);
        Queue(new MemoryUse(output.Memory, IsWritten: true), new MemoryUse(other.Memory, IsWritten: true));
        Assert.Throws<MetalException>(() => output.AsReadOnlySpan().Length);
        Assert.Equal(8, output.AsReadOnlySpan().Length);
        Assert.Throws<MetalException>(() => other.AsSpan().Length);
        other.AsSpan().Clear();
    }

    [Fact]
    public void Memory_goes_back_when_the_GPU_is_done_with_it()
    {
        MetalTensor<float> tensor = _device.Allocate<float>(8);
        Queue(new MemoryUse(tensor.Memory, IsWritten: false));
        tensor.Dispose();
        tensor.Dispose();
        Assert.Equal(1, _runtime.Living - 1);       // the transient chunk is the other one
        Assert.Empty(_runtime.Waits);
        Assert.Throws<ObjectDisposedException>(() => tensor.AsSpan().Length);
        _runtime.End(1);
        using MetalTensor<float> next = _device.Allocate<float>(8);
        Assert.Equal(2, _runtime.Living);

        // What the GPU never used goes at once.
        _device.Allocate<float>(8).Dispose();
        Assert.Equal(2, _runtime.Living);
        Assert.Equal(0, _device.Retired.Count);
    }

    [Fact]
    public void Views_end_with_the_tensor_that_was_allocated()
    {
        MetalTensor<float> tensor = _device.Allocate<float>(8);
        MetalTensor<float> view = tensor.Slice(1..3);
        view.Dispose();
        view.AsSpan()[0] = 1;
        tensor.Dispose();
        foreach (Action use in (Action[])[() => view.AsSpan(), () => view.AsReadOnlyTensorSpan(), () => view.Slice(0..1), () => view.Reshape(2, 1), () => view.View(0, [1], [1]), view.Wait])
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

        [System.Runtime.CompilerServices.MethodImpl(System.Runtime.CompilerServices.MethodImplOptions.NoInlining)]
        static void Forget(MetalDevice device) => device.Allocate<float>(100).Slice(0..3).AsSpan().Clear();
    }

    [Fact]
    public unsafe void Wrapped_memory_is_used_in_place_and_waited_for()
    {
        nuint page = (nuint)Environment.SystemPageSize;
        var memory = (float*)NativeMemory.AlignedAlloc(4 * page, 16384);
        try
        {
            long bytes = 2 * (long)page;
            Assert.Throws<ArgumentNullException>(() => _device.Wrap((float*)null, bytes, 8));
            Assert.Throws<ArgumentException>("memory", () => _device.Wrap(memory + 1, bytes, 8));
            Assert.Throws<ArgumentException>("bytes", () => _device.Wrap(memory, bytes - 4, 8));
            Assert.Throws<ArgumentException>("bytes", () => _device.Wrap(memory, 0, 0));
            Assert.Throws<ArgumentException>("lengths", () => _device.Wrap(memory, bytes, 3, (nint)bytes));
            Assert.Throws<MetalException>(() => _device.Wrap(memory, 1L << 40, 8));

            MetalTensor<float> tensor = _device.Wrap(memory, bytes, 2, 3);
            tensor.AsTensorSpan()[1, 2] = 42;
            Assert.Equal(42, memory[5]);
            Queue(new MemoryUse(tensor.Memory, IsWritten: true));
            _runtime.Failing.Add(1);
            tensor.Slice(0..1, ..).Dispose();
            Assert.Empty(_runtime.Waits);
            tensor.Dispose();
            Assert.Equal([1], _runtime.Waits);
            Assert.Equal(1, _runtime.Living);
            Assert.Contains("submission 1 failed", Assert.Throws<MetalException>(() => _device.Wait(0)).Message, StringComparison.Ordinal);
            _device.Wait(0);
        }
        finally
        {
            NativeMemory.AlignedFree(memory);
        }
    }

    [Fact]
    public void A_device_says_what_it_is()
    {
        Assert.Equal("Recorder (Apple GPU family 9)", _device.ToString());
        Assert.Equal(("Recorder", 9, 1L << 26), (_device.Name, _device.AppleFamily, _device.MaxTensorBytes));
        _device.Synchronize();
        _device.Close();
        Assert.True(_runtime.IsDisposed);
    }

    private void Queue(params MemoryUse[] uses)
    {
        using TransientPool.Rental transient = _device.Transient.Rent();
        transient.Take(16);
        _device.Submit(FakeMetal.Launch(FakeMetal.Function("attend"), [.. uses.Select(static (use, i) => new BufferBinding(i, use.Memory.Memory, 0, use.IsWritten))]), transient, uses);
    }
}
