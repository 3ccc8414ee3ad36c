using FusedAttention.Cuda.Memory;
using FusedAttention.Devices;

namespace FusedAttention;

/// <summary>A tensor in the memory of a CUDA device, whatever its element type. See <see cref="CudaTensor{T}"/>.</summary>
public abstract class CudaTensor : IDisposable
{
    private readonly bool _ownsMemory;

    private protected CudaTensor(TensorMemory memory, bool ownsMemory, long offset, ViewLayout layout)
    {
        Memory = memory;
        Offset = offset;
        Layout = layout;
        _ownsMemory = ownsMemory;
    }

    /// <summary>The device that the tensor belongs to.</summary>
    public CudaDevice Device => Memory.Device;

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

    /// <summary>
    /// The address of the first element on the device, for the caller's own kernels and copies. This library does not know of those: queue them on the stream of the calls before and after
    /// (<see cref="CudaStream.Handle"/>), or wait in between.
    /// </summary>
    /// <exception cref="ObjectDisposedException">The tensor, or the one it is a view of, is disposed.</exception>
    public nint DevicePointer
    {
        get
        {
            ThrowIfClosed();
            return (nint)Address;
        }
    }

    internal TensorMemory Memory { get; }

    /// <summary>Of the first element in the memory, in bytes.</summary>
    internal long Offset { get; }

    internal ViewLayout Layout { get; }

    /// <summary>Where the device sees the first element.</summary>
    internal ulong Address => Memory.Memory.Address + (ulong)Offset;

    /// <summary>Where the first element lies.</summary>
    internal MemoryPlace Place => new(Memory.Memory, Offset);

    /// <summary>Waits until the GPU neither reads nor writes the tensor's memory, on any stream.</summary>
    /// <exception cref="CudaException">Work on the device failed.</exception>
    /// <exception cref="ObjectDisposedException">The tensor, or the one it is a view of, is disposed.</exception>
    public void Wait()
    {
        ThrowIfClosed();
        Memory.AwaitUse();
    }

    /// <summary>
    /// Gives the memory back once the GPU has done what uses it, without waiting; memory of the caller's (<c>CudaDevice.Wrap</c>) is left alone. Disposing a view does nothing: the memory is that of the
    /// tensor that was allocated, and views of it are refused from now on.
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
