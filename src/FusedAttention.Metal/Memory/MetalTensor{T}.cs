using System.Buffers;
using System.Numerics.Tensors;
using FusedAttention.Devices;
using FusedAttention.Metal.Memory;

namespace FusedAttention;

/// <summary>
/// A tensor in memory that processor and GPU share: its spans are the very memory that the GPU reads and writes, nothing is ever copied between the two.
/// Made by <see cref="MetalDevice.Allocate{T}"/>, or as a view of another tensor.
/// </summary>
/// <remarks>
/// <para>Calls of <see cref="MetalAttention"/> return before their work is done. A span is given out when that is safe: a read-only one when all work that writes the tensor's memory has ended, a
/// writable one when all work that reads or writes it has ended. What counts is the memory, so a view waits for work on other views of it too. A span that was taken earlier does not wait
/// again: take a new one after each call.</para>
/// <para>Lifetime: spans are valid until the tensor that was allocated is disposed or collected, so dispose it (<c>using</c>) where its last use is. Disposing it while the GPU works is safe.</para>
/// <para>Threads: a tensor may be read from any number of threads. While one thread writes its elements, or queues work that does, no other may use them.</para>
/// </remarks>
/// <typeparam name="T">Element type.</typeparam>
public sealed unsafe class MetalTensor<T> : MetalTensor
    where T : unmanaged
{
    internal MetalTensor(MetalDevice device, SharedMemory memory, bool ownsMemory, long offset, ViewLayout layout)
        : base(device, memory, ownsMemory, offset, layout)
    {
    }

    /// <inheritdoc/>
    public override Type ElementType => typeof(T);

    internal T* First => (T*)(Memory.Pointer + Offset);

    /// <summary>The elements, for reading and writing.</summary>
    /// <param name="wait">False does not wait for the GPU: for who knows that it is done, or that it touches other elements.</param>
    /// <exception cref="MetalException">Work that was waited for failed. The next span is given out without it.</exception>
    /// <exception cref="ObjectDisposedException">The tensor, or the one it is a view of, is disposed.</exception>
    public TensorSpan<T> AsTensorSpan(bool wait = true)
    {
        ThrowIfClosed();
        if (wait) Memory.AwaitUse();

        // An empty tensor span takes no strides.
        return Layout.Count == 0 ? new TensorSpan<T>(First, 0, Lengths) : new TensorSpan<T>(First, (nint)Layout.Extent, Lengths, Strides);
    }

    /// <summary>The elements, for reading.</summary>
    /// <inheritdoc cref="AsTensorSpan"/>
    public ReadOnlyTensorSpan<T> AsReadOnlyTensorSpan(bool wait = true)
    {
        ThrowIfClosed();
        if (wait) Memory.AwaitWrites();
        return Layout.Count == 0 ? new ReadOnlyTensorSpan<T>(First, 0, Lengths) : new ReadOnlyTensorSpan<T>(First, (nint)Layout.Extent, Lengths, Strides);
    }

    /// <summary>The elements in row-major order, for reading and writing.</summary>
    /// <exception cref="InvalidOperationException">The tensor is not dense, or has more than 2^31 - 1 elements.</exception>
    /// <inheritdoc cref="AsTensorSpan"/>
    public Span<T> AsSpan(bool wait = true)
    {
        ThrowIfClosed();
        int length = DenseLength();
        if (wait) Memory.AwaitUse();
        return new(First, length);
    }

    /// <summary>The elements in row-major order, for reading.</summary>
    /// <exception cref="InvalidOperationException">The tensor is not dense, or has more than 2^31 - 1 elements.</exception>
    /// <inheritdoc cref="AsTensorSpan"/>
    public ReadOnlySpan<T> AsReadOnlySpan(bool wait = true)
    {
        ThrowIfClosed();
        int length = DenseLength();
        if (wait) Memory.AwaitWrites();
        return new(First, length);
    }

    /// <summary>A part of the tensor, over the same memory.</summary>
    /// <param name="ranges">One for each dimension.</param>
    /// <exception cref="ArgumentException">There are more or fewer ranges than dimensions.</exception>
    /// <exception cref="ArgumentOutOfRangeException">A range lies outside of its dimension.</exception>
    /// <exception cref="ObjectDisposedException">The tensor is disposed.</exception>
    public MetalTensor<T> Slice(params ReadOnlySpan<NRange> ranges)
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
    public MetalTensor<T> Reshape(params ReadOnlySpan<nint> lengths)
    {
        ThrowIfClosed();
        if (!IsDense) throw NotDense();
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
    public MetalTensor<T> View(nint start, ReadOnlySpan<nint> lengths, ReadOnlySpan<nint> strides)
    {
        ThrowIfClosed();
        if (start < 0 || start > Layout.Extent) throw new ArgumentException($"start is {start}; the tensor, {Layout}, reaches over {Layout.Extent} elements.", nameof(start));
        ViewLayout layout = ViewLayout.Strided(lengths, strides, Layout.Extent - start, sizeof(T));

        // A view of nothing begins where there is something: buffers have no place at their end.
        return ViewOf(layout.Count == 0 ? 0 : start, layout);
    }

    /// <summary>Writes all elements, in row-major order, when the GPU has ended its work on them.</summary>
    /// <param name="source">As many elements as the tensor has.</param>
    /// <exception cref="ArgumentException">It has more or fewer.</exception>
    /// <exception cref="InvalidOperationException">The tensor is not dense.</exception>
    /// <exception cref="MetalException">Work on the tensor failed.</exception>
    /// <exception cref="ObjectDisposedException">The tensor is disposed.</exception>
    public void CopyFrom(ReadOnlySpan<T> source)
    {
        if (source.Length != Layout.Count) throw new ArgumentException($"source has {source.Length} elements, but the tensor, {Layout}, has {Layout.Count}.", nameof(source));
        source.CopyTo(AsSpan());
        GC.KeepAlive(this);     // a span keeps nothing, and this may be the tensor's last use
    }

    /// <summary>Reads all elements, in row-major order, when the GPU has written them.</summary>
    /// <param name="destination">As many elements as the tensor has.</param>
    /// <exception cref="ArgumentException">It has more or fewer.</exception>
    /// <exception cref="InvalidOperationException">The tensor is not dense.</exception>
    /// <exception cref="MetalException">Work on the tensor failed.</exception>
    /// <exception cref="ObjectDisposedException">The tensor is disposed.</exception>
    public void CopyTo(Span<T> destination)
    {
        if (destination.Length != Layout.Count) throw new ArgumentException($"destination has {destination.Length} elements, but the tensor, {Layout}, has {Layout.Count}.", nameof(destination));
        AsReadOnlySpan().CopyTo(destination);
        GC.KeepAlive(this);
    }

    private MetalTensor<T> ViewOf(long start, ViewLayout layout) => new(Device, Memory, ownsMemory: false, Offset + (start * sizeof(T)), layout);

    private int DenseLength()
    {
        if (!IsDense) throw NotDense();
        return Layout.Count <= int.MaxValue ? (int)Layout.Count : throw new InvalidOperationException($"The tensor, {Layout}, has more elements than a span can have.");
    }

    private InvalidOperationException NotDense() =>
        new($"The tensor, {Layout} with strides [{string.Join(", ", Strides.ToArray())}], is not dense: its elements do not lie one after the other.");
}
