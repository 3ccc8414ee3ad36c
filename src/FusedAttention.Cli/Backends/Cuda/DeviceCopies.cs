using System.Runtime.InteropServices;
using FusedAttention.Checking.Formats;

namespace FusedAttention.Cli.Backends.Cuda;

/// <summary>Loaded tensors in memory of a device, and back.</summary>
internal static class DeviceCopies
{
    public static CudaTensor<T> Copy<T>(this CudaDevice device, LoadedTensor tensor)
        where T : unmanaged
    {
        ReadOnlySpan<T> elements = tensor.Elements<T>();
        CudaTensor<T> copy = device.Allocate<T>(LoadedTensor.Lengths(tensor.Shape.AsSpan()));
        try
        {
            copy.CopyFrom(elements);
            return copy;
        }
        catch
        {
            copy.Dispose();
            throw;
        }
    }

    public static T[] ToArray<T>(this CudaTensor<T> tensor)
        where T : unmanaged
    {
        T[] elements = new T[tensor.FlattenedLength];
        tensor.CopyTo(elements);
        return elements;
    }

    public static byte[] ToBytes<T>(this CudaTensor<T> tensor)
        where T : unmanaged
    {
        byte[] bytes = new byte[tensor.FlattenedLength * Marshal.SizeOf<T>()];
        tensor.CopyTo(MemoryMarshal.Cast<byte, T>(bytes.AsSpan()));
        return bytes;
    }
}
