using FusedAttention.Cuda.Launching;
using FusedAttention.Cuda.Memory;
using FusedAttention.Devices;

namespace FusedAttention;

/// <content>Tensors: in memory of the device's own, or over the caller's.</content>
public sealed unsafe partial class CudaDevice
{
    /// <summary>An empty tensor has memory too: kernels take addresses.</summary>
    private const long SmallestAllocation = 256;

    /// <summary>A tensor in memory of the device; its elements are undefined until they are written.</summary>
    /// <typeparam name="T">Element type: for attention <see cref="float"/>, <see cref="Half"/> or <see cref="BFloat16"/>, <see cref="bool"/> for masks.</typeparam>
    /// <param name="lengths">Its dimensions, 1 or more of them; the elements lie in row-major order.</param>
    /// <exception cref="ArgumentException">There is no length, or one is negative, or the elements do not fit the address space.</exception>
    /// <exception cref="CudaException">The device does not give the memory.</exception>
    public CudaTensor<T> Allocate<T>(params ReadOnlySpan<nint> lengths)
        where T : unmanaged
    {
        ViewLayout layout = ViewLayout.Contiguous(lengths, sizeof(T), nameof(lengths));
        return new(AllocateMemory(layout.Extent * sizeof(T)), ownsMemory: true, 0, layout);
    }

    /// <summary>
    /// A tensor over device memory of the caller's, which is used where it lies: nothing is copied, and nothing freed. The memory must stay until the work that uses it has ended
    /// (<see cref="CudaTensor.Wait"/>); disposing the tensor does not wait for it.
    /// </summary>
    /// <remarks>
    /// Wrap memory once, and make views of that: two tensors over the same memory that were wrapped separately are not kept in order between streams. The same goes for the caller's own work on the memory.
    /// </remarks>
    /// <typeparam name="T">Element type.</typeparam>
    /// <param name="devicePointer">The first element: an address of this device, a multiple of the element's size. Kernels are fastest at multiples of 16 bytes.</param>
    /// <param name="lengths">The tensor's dimensions; the elements lie in row-major order.</param>
    /// <exception cref="ArgumentException">The pointer is 0 or between elements, there is no length, or one is negative.</exception>
    public CudaTensor<T> Wrap<T>(nint devicePointer, params ReadOnlySpan<nint> lengths)
        where T : unmanaged => Wrap<T>(devicePointer, ViewLayout.Contiguous(lengths, sizeof(T), nameof(lengths)));

    /// <param name="devicePointer">The first element: an address of this device, a multiple of the element's size. Kernels are fastest at multiples of 16 bytes.</param>
    /// <param name="lengths">The tensor's dimensions.</param>
    /// <param name="strides">The distances between elements along each dimension, in elements; 0 repeats.</param>
    /// <exception cref="ArgumentException">The pointer is 0 or between elements, there is no length, a number is negative, or there are more or fewer strides than lengths.</exception>
    /// <inheritdoc cref="Wrap{T}(nint, ReadOnlySpan{nint})"/>
    public CudaTensor<T> Wrap<T>(nint devicePointer, ReadOnlySpan<nint> lengths, ReadOnlySpan<nint> strides)
        where T : unmanaged => Wrap<T>(devicePointer, ViewLayout.Strided(lengths, strides, nint.MaxValue / sizeof(T), sizeof(T)));

    /// <summary>Memory for tensors and caches.</summary>
    /// <exception cref="CudaException">The device does not give it.</exception>
    internal TensorMemory AllocateMemory(long bytes)
    {
        if (bytes > MaxTensorBytes) throw new CudaException($"{bytes} bytes are more than {this} has: {MaxTensorBytes}.");
        Retired.Collect();
        bytes = long.Max(SmallestAllocation, bytes);
        try
        {
            return new(this, Runtime.Allocate(bytes));
        }
        catch (CudaException) when (Retired.Count > 0)
        {
            // What was disposed of may be all that is missing.
            Runtime.Synchronize();
            Retired.Collect();
            return new(this, Runtime.Allocate(bytes));
        }
    }

    private CudaTensor<T> Wrap<T>(nint devicePointer, ViewLayout layout)
        where T : unmanaged
    {
        if (devicePointer == 0 && layout.Count > 0) throw new ArgumentException($"devicePointer is 0 for {layout}.", nameof(devicePointer));
        if ((nuint)devicePointer % (nuint)sizeof(T) != 0)
            throw new ArgumentException($"devicePointer is 0x{devicePointer:x}; elements of {sizeof(T)} bytes lie at multiples of that.", nameof(devicePointer));
        CudaMemory memory = new CallersMemory((ulong)devicePointer, layout.Extent * sizeof(T));
        return new(new TensorMemory(this, memory), ownsMemory: true, 0, layout);
    }
}
