using System.Numerics.Tensors;
using System.Runtime.InteropServices;
using Xunit;

namespace FusedAttention.Cuda.Tests.Gpu;

/// <summary>What a sequence has in one layer of a cache, as bytes: its keys, their scales, its values and theirs, each token by token. The same for a cache of the device and one of the processor.</summary>
internal static class CacheContents
{
    public static byte[][] Of<T>(CudaPagedKeyValueCache<T> cache, CacheSequence sequence, int layer)
        where T : unmanaged
        => [Rows(cache, sequence, Pool(cache.GetKeys(layer))), Rows(cache, sequence, Pool(cache.GetKeyScales(layer))), Rows(cache, sequence, Pool(cache.GetValues(layer))), Rows(cache, sequence, Pool(cache.GetValueScales(layer)))];

    public static byte[][] Of<T>(PagedKeyValueCache<T> cache, CacheSequence sequence, int layer)
        where T : unmanaged
        => [Rows(cache, sequence, Pool(cache.GetKeys(layer))), Rows(cache, sequence, Pool(cache.GetKeyScales(layer))), Rows(cache, sequence, Pool(cache.GetValues(layer))), Rows(cache, sequence, Pool(cache.GetValueScales(layer)))];

    public static void AssertSame(byte[][] expected, byte[][] actual, string what)
    {
        string[] planes = ["keys", "scales of keys", "values", "scales of values"];
        for (int plane = 0; plane < planes.Length; plane++)
        {
            Assert.Equal(expected[plane].Length, actual[plane].Length);
            int at = expected[plane].AsSpan().CommonPrefixLength(actual[plane]);
            Assert.True(at == expected[plane].Length, at == expected[plane].Length ? "" : $"{what}, {planes[plane]}: byte {at} of {expected[plane].Length} is {actual[plane][at]:x2}, not {expected[plane][at]:x2}");
        }
    }

    /// <summary>Empty where there are no scales.</summary>
    private static byte[] Pool<T>(CudaTensor<T>? tensor)
        where T : unmanaged
    {
        if (tensor is null) return [];
        T[] all = new T[tensor.FlattenedLength];
        tensor.CopyTo(all);
        return MemoryMarshal.AsBytes(all.AsSpan()).ToArray();
    }

    private static byte[] Pool<T>(ReadOnlyTensorSpan<T> tensor)
        where T : unmanaged
    {
        if (tensor.IsEmpty) return [];
        T[] all = new T[tensor.FlattenedLength];
        tensor.FlattenTo(all);
        return MemoryMarshal.AsBytes(all.AsSpan()).ToArray();
    }

    private static byte[] Rows(KeyValueCache cache, CacheSequence sequence, byte[] pool)
    {
        int length = cache.GetLength(sequence), size = cache.Options.BlockSize, slot = pool.Length / cache.Options.Blocks / size;
        int[] table = new int[(length + size - 1) / size];
        cache.CopyBlockTable(sequence, table);
        byte[] rows = new byte[length * slot];
        for (int t = 0; t < length; t++) pool.AsSpan(((table[t / size] * size) + (t % size)) * slot, slot).CopyTo(rows.AsSpan(t * slot));
        return rows;
    }
}
