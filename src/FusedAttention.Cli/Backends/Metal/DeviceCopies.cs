using FusedAttention.Checking.Formats;

namespace FusedAttention.Cli.Backends.Metal;

/// <summary>Loaded tensors in memory of a device.</summary>
internal static class DeviceCopies
{
    public static MetalTensor<T> Copy<T>(this MetalDevice device, LoadedTensor tensor)
        where T : unmanaged
    {
        ReadOnlySpan<T> elements = tensor.Elements<T>();
        MetalTensor<T> copy = device.Allocate<T>(LoadedTensor.Lengths(tensor.Shape.AsSpan()));
        copy.CopyFrom(elements);
        return copy;
    }
}
