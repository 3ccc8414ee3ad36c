using System.Runtime.InteropServices;

namespace FusedAttention.Cuda.Tests.Gpu;

/// <summary>What <see cref="CacheContents"/> has of a cache of the processor, of one of the device.</summary>
internal static class DeviceContents
{
    public static byte[][] ContentsOf<T>(this CudaPagedKeyValueCache<T> cache, CacheSequence sequence, int layer)
        where T : unmanaged
        => CacheContents.Of(cache, sequence, [Pool(cache.GetKeys(layer)), Pool(cache.GetKeyScales(layer)), Pool(cache.GetValues(layer)), Pool(cache.GetValueScales(layer))]);

    private static byte[] Pool<T>(CudaTensor<T>? tensor)
        where T : unmanaged
    {
        if (tensor is null) return [];
        T[] all = new T[tensor.FlattenedLength];
        tensor.CopyTo(all);
        return MemoryMarshal.AsBytes(all.AsSpan()).ToArray();
    }
}
