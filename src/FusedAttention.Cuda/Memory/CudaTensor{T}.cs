using System.Buffers;
using FusedAttention.Cuda.Memory;
using FusedAttention.Devices;

namespace FusedAttention;

/// <summary>
/// A tensor in the memory of a CUDA device. Made by <see cref="CudaDevice.Allocate{T}"/>, over memory of the caller's by <see cref="CudaDevice.Wrap{T}(nint, ReadOnlySpan{nint})"/>, or as a view of
/// another tensor. The processor does not see the elements: <see cref="CopyFrom"/> and <see cref="CopyTo"/> move them.
/// </summary>
/// <remarks>
/// <para>Order: work on one stream runs in the order of calls. A call on another stream that reads what an earlier call writes, or writes what an earlier call reads or writes, waits for it on the device.
/// What counts is the memory, so views of one tensor are in order too.</para>
/// <para>Lifetime: dispose the tensor that was allocated where its last use is (<c>using</c>). Disposing it while the GPU works is safe and does not wait.</para>
/// <para>Threads: a tensor may be read from any number of threads. While one thread writes its elements, or queues work that does, no other may use them.</para>
/// </remarks>
/// <typeparam name="T">Element type.</typeparam>
public sealed unsafe class CudaTensor<T> : CudaTensor
    where T : unmanaged
{
    internal CudaTensor(TensorMemory memory, bool ownsMemory, long offset, ViewLayout layout)
        : base(memory, ownsMemory, offset, layout)
    {
    }

    /// <inheritdoc/>
    public override Type ElementType => typeof(T);

    /// <summary>The first element, at its address on the device: for arithmetic, not to be followed.</summary>
    internal T* First => (T*)Address;

    /// <summary>A part of the tensor, over the same memory.</summary>
    /// <param name="ranges">One for each dimension.</param>
    /// <exception cref="ArgumentException">There are more or fewer ranges than dimensions.</exception>
    /// <exception cref="ArgumentOutOfRangeException">A range lies outside of its dimension.</exception>
    /// <exception cref="ObjectDisposedException">The tensor is disposed.</exception>
    public CudaTensor<T> Slice(params ReadOnlySpan<NRange> ranges)
    {
        ThrowIfClosed();
        ViewLayout layout = Layout.Slice(ranges, out long start);
        return ViewOf(start, layout);
    }

    /// <summary>The elements in the same order with other dimensions, over the same memory.</summary>
    /// <param name="lengths">The new dimensions; as many elements as now.</param>
    /// <exception cref="ArgumentException">The number of elements differs.</exception>
    /// <exception cref="InvalidOperationException">The tensor is not dense.</exception>
    /// <exception cref="ObjectDisposedException">The tensor is disposed.</exception>
    public CudaTensor<T> Reshape(params ReadOnlySpan<nint> lengths)
    {
        ThrowIfClosed();
        ThrowIfNotDense("reshaped");
        ViewLayout layout = ViewLayout.Contiguous(lengths, sizeof(T), nameof(lengths));
        if (layout.Count != Layout.Count)
            throw new ArgumentException($"{layout} has {layout.Count} elements, but the tensor, {Layout}, has {Layout.Count}.", nameof(lengths));
        return ViewOf(0, layout);
    }

    /// <summary>Any arrangement of the tensor's memory: padded rows, heads outside of tokens, a part of packed rows.</summary>
    /// <param name="start">Which element, counted in memory from the tensor's first one, comes first.</param>
    /// <param name="lengths">The dimensions of the view.</param>
    /// <param name="strides">The distances between elements along each dimension, in elements; 0 repeats.</param>
    /// <exception cref="ArgumentException">A number is negative, the numbers of lengths and strides differ, or the view reaches beyond the tensor's last element in memory.</exception>
    /// <exception cref="ObjectDisposedException">The tensor is disposed.</exception>
    public CudaTensor<T> View(nint start, ReadOnlySpan<nint> lengths, ReadOnlySpan<nint> strides)
    {
        ThrowIfClosed();
        if (start < 0 || start > Layout.Extent) throw new ArgumentException($"start is {start}; the tensor, {Layout}, reaches over {Layout.Extent} elements.", nameof(start));
        ViewLayout layout = ViewLayout.Strided(lengths, strides, Layout.Extent - start, sizeof(T));

        // A view of nothing begins where there is something.
        return ViewOf(layout.Count == 0 ? 0 : start, layout);
    }

    /// <summary>
    /// Writes all elements, in row-major order. Returns when <paramref name="source"/> has been read; the copy itself is in the order of the stream, behind what other streams do with the tensor.
    /// </summary>
    /// <param name="source">As many elements as the tensor has.</param>
    /// <param name="stream">Where the copy is queued; <see cref="CudaDevice.DefaultStream"/> if there is none.</param>
    /// <exception cref="ArgumentException">There are more or fewer elements, or the stream is another device's.</exception>
    /// <exception cref="InvalidOperationException">The tensor is not dense, or the stream is being captured.</exception>
    /// <exception cref="CudaException">The device failed.</exception>
    /// <exception cref="ObjectDisposedException">The tensor or the stream is disposed.</exception>
    public void CopyFrom(ReadOnlySpan<T> source, CudaStream? stream = null)
    {
        if (source.Length != Layout.Count) throw new ArgumentException($"source has {source.Length} elements, but the tensor, {Layout}, has {Layout.Count}.", nameof(source));
        fixed (T* first = source) Copy(first, toDevice: true, Device.StreamOf(stream, nameof(stream)));
    }

    /// <summary>Reads all elements, in row-major order, when the GPU has written them, on whatever stream.</summary>
    /// <param name="destination">As many elements as the tensor has.</param>
    /// <param name="stream">Where the copy is queued, and waited for; <see cref="CudaDevice.DefaultStream"/> if there is none.</param>
    /// <exception cref="ArgumentException">There are more or fewer elements, or the stream is another device's.</exception>
    /// <exception cref="InvalidOperationException">The tensor is not dense, or the stream is being captured.</exception>
    /// <exception cref="CudaException">The device failed, now or in work before.</exception>
    /// <exception cref="ObjectDisposedException">The tensor or the stream is disposed.</exception>
    public void CopyTo(Span<T> destination, CudaStream? stream = null)
    {
        if (destination.Length != Layout.Count) throw new ArgumentException($"destination has {destination.Length} elements, but the tensor, {Layout}, has {Layout.Count}.", nameof(destination));
        CudaStream on = Device.StreamOf(stream, nameof(stream));

        // Pinned for the collector until the copy is there.
        fixed (T* first = destination)
        {
            long copied = Copy(first, toDevice: false, on);
            on.Wait(copied);
        }
    }

    private long Copy(T* host, bool toDevice, CudaStream stream)
    {
        ThrowIfClosed();
        ThrowIfNotDense("copied");
        MemoryUse use = new(Memory, IsWritten: toDevice);
        use.Memory.Hold();
        try
        {
            using Submission work = new(stream, new ReadOnlySpan<MemoryUse>(in use));
            if (work.IsCapturing) throw new InvalidOperationException($"The {stream} is being captured: a graph would copy the host's memory whenever it runs. Copy before capturing, or on another stream.");
            work.Begin();
            if (Layout.Count > 0)
            {
                long bytes = Layout.Count * sizeof(T);
                if (toDevice) work.CopyToDevice(Place, host, bytes);
                else work.CopyToHost(host, Place, bytes);
            }

            return work.End();
        }
        finally
        {
            use.Memory.DangerousRelease();
        }
    }

    private CudaTensor<T> ViewOf(long start, ViewLayout layout) => new(Memory, ownsMemory: false, Offset + (start * sizeof(T)), layout);

    private void ThrowIfNotDense(string whatFor)
    {
        if (IsDense) return;
        throw new InvalidOperationException(
            $"The tensor, {Layout} with strides [{string.Join(", ", Strides.ToArray())}], is not dense, so it cannot be {whatFor}: its elements do not lie one after the other. Make it from, or of, a dense tensor.");
    }
}
