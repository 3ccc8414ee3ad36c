using FusedAttention.Devices;
using FusedAttention.Metal.Memory;

namespace FusedAttention;

/// <summary>A tensor in memory that processor and GPU share, whatever its element type. See <see cref="MetalTensor{T}"/>.</summary>
public abstract class MetalTensor : IDisposable
{
    private readonly bool _ownsMemory;

    private protected MetalTensor(MetalDevice device, SharedMemory memory, bool ownsMemory, long offset, ViewLayout layout)
    {
        Device = device;
        Memory = memory;
        Offset = offset;
        Layout = layout;
        _ownsMemory = ownsMemory;
    }

    /// <summary>The device that the tensor belongs to.</summary>
    public MetalDevice Device { get; }

    /// <summary>The type of the elements.</summary>
    public abstract Type ElementType { get; }

    /// <summary>How many dimensions it has.</summary>
    public int Rank => Layout.Lengths.Length;

    /// <summary>The dimensions.</summary>
    public ReadOnlySpan<nint> Lengths => Layout.Lengths;

    /// <summary>The distances between elements along each dimension, in elements; 0 for dimensions of length 1 or 0.</summary>
    public ReadOnlySpan<nint> Strides => Layout.Strides;

    /// <summary>How many elements it has.</summary>
    public nint FlattenedLength => (nint)Layout.Count;

    /// <summary>Whether the elements lie one after the other in row-major order.</summary>
    public bool IsDense => Layout.IsDense;

    /// <summary>Whether the GPU may still be using the tensor's memory, or memory that it is a view of.</summary>
    public bool IsPending => Memory.IsPending;

    internal SharedMemory Memory { get; }

    /// <summary>Of the first element in the memory, in bytes.</summary>
    internal long Offset { get; }

    internal ViewLayout Layout { get; }

    /// <summary>Waits until the GPU neither reads nor writes the tensor's memory.</summary>
    /// <exception cref="MetalException">Work on it failed.</exception>
    /// <exception cref="ObjectDisposedException">The tensor, or the one it is a view of, is disposed.</exception>
    public void Wait()
    {
        ThrowIfClosed();
        Memory.AwaitUse();
    }

    /// <summary>
    /// Gives the memory back, once the GPU has done what uses it; only for memory of the caller's (<c>MetalDevice.Wrap</c>) that is waited for here. Disposing a view does nothing: the memory is that of
    /// the tensor that was allocated, and views of it are refused from now on.
    /// </summary>
    public void Dispose()
    {
        if (_ownsMemory) Memory.Dispose();
        GC.SuppressFinalize(this);
    }

    /// <summary>Lengths and element type, for messages: <c>[2, 5, 8, 64] of Half</c>.</summary>
    public override string ToString() => $"{Layout} of {ElementType.Name}";

    internal void ThrowIfClosed() => ObjectDisposedException.ThrowIf(Memory.IsClosed, this);
}
