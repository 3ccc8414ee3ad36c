using FusedAttention.Devices;
using FusedAttention.Metal.Memory;

namespace FusedAttention;

/// <content>Tensors: in memory of the device's own, or over the caller's.</content>
public sealed unsafe partial class MetalDevice
{
    /// <summary>A tensor in memory that processor and GPU share; its elements are undefined until they are written.</summary>
    /// <typeparam name="T">Element type: for attention <see cref="float"/>, <see cref="Half"/> or <see cref="BFloat16"/>, <see cref="bool"/> for masks.</typeparam>
    /// <param name="lengths">Its dimensions, 1 or more of them; the elements lie in row-major order.</param>
    /// <exception cref="ArgumentException">There is no length, or one is negative, or the elements do not fit the address space.</exception>
    /// <exception cref="MetalException">The device does not give the memory.</exception>
    public MetalTensor<T> Allocate<T>(params ReadOnlySpan<nint> lengths)
        where T : unmanaged
    {
        ViewLayout layout = ViewLayout.Contiguous(lengths, sizeof(T), nameof(lengths));
        return new(this, AllocateMemory(layout.Extent * sizeof(T)), ownsMemory: true, 0, layout);
    }

    /// <summary>
    /// A tensor over memory of the caller's, which the GPU uses in place: nothing is copied. The memory must stay until the tensor is disposed, which waits for the work that uses it.
    /// </summary>
    /// <remarks>Wrap memory once: two tensors over the same memory that were wrapped separately are not kept in order by the GPU. Views of one tensor are.</remarks>
    /// <typeparam name="T">Element type.</typeparam>
    /// <param name="memory">The first element, at the start of a page (<see cref="Environment.SystemPageSize"/>, 16,384 bytes on Apple's processors).</param>
    /// <param name="bytes">How long the memory is: whole pages.</param>
    /// <param name="lengths">The tensor's dimensions, contiguous, from the first byte on; they may take less than all of the memory.</param>
    /// <exception cref="ArgumentException">The memory is not page-aligned or not of whole pages, or the tensor is longer.</exception>
    /// <exception cref="MetalException">The device refuses the memory.</exception>
    public MetalTensor<T> Wrap<T>(T* memory, long bytes, params ReadOnlySpan<nint> lengths)
        where T : unmanaged
    {
        int page = Environment.SystemPageSize;
        ArgumentNullException.ThrowIfNull(memory);
        if ((nuint)memory % (nuint)page != 0) throw new ArgumentException($"memory is at 0x{(nuint)memory:x}; it must begin at a page of {page} bytes.", nameof(memory));
        if (bytes <= 0 || bytes % page != 0) throw new ArgumentException($"bytes is {bytes}; it must be a multiple of the page size, {page}, and more than 0.", nameof(bytes));
        ViewLayout layout = ViewLayout.Contiguous(lengths, sizeof(T), nameof(lengths));
        if (layout.Extent > bytes / sizeof(T))
            throw new ArgumentException($"{layout} takes {layout.Extent} elements of {sizeof(T)} bytes, but the memory has {bytes} bytes.", nameof(lengths));
        if (bytes > MaxTensorBytes) throw new MetalException($"{bytes} bytes are more than one tensor on {this} can have: {MaxTensorBytes}.");
        return new(this, new SharedMemory(this, _runtime.Wrap((nint)memory, bytes), isCallers: true), ownsMemory: true, 0, layout);
    }
}
