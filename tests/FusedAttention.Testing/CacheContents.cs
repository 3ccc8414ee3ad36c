using System.Numerics.Tensors;
using System.Runtime.InteropServices;
using Xunit;

namespace FusedAttention.Testing;

/// <summary>What a sequence has in one layer of a cache, as bytes: its keys, their scales, its values and theirs, each token by token. The same for a cache of a device and one of the processor.</summary>
internal static class CacheContents
{
    public static byte[][] Of<T>(PagedKeyValueCache<T> cache, CacheSequence sequence, int layer)
        where T : unmanaged
        => Of(cache, sequence, [Pool(cache.GetKeys(layer)), Pool(cache.GetKeyScales(layer)), Pool(cache.GetValues(layer)), Pool(cache.GetValueScales(layer))]);

    /// <param name="cache">Any cache.</param>
    /// <param name="sequence">One of its sequences.</param>
    /// <param name="pools">The layer's keys, their scales, values and their scales as they lie in memory; empty where there are no scales.</param>
    public static byte[][] Of(KeyValueCache cache, CacheSequence sequence, byte[][] pools)
    {
        int length = cache.GetLength(sequence), size = cache.Options.BlockSize;
        int[] table = new int[(length + size - 1) / size];
        cache.CopyBlockTable(sequence, table);
        return [.. pools.Select(Rows)];

        byte[] Rows(byte[] pool)
        {
            int slot = pool.Length / cache.Options.Blocks / size;
            byte[] rows = new byte[length * slot];
            for (int t = 0; t < length; t++) pool.AsSpan(((table[t / size] * size) + (t % size)) * slot, slot).CopyTo(rows.AsSpan(t * slot));
            return rows;
        }
    }

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

    /// <summary>The bytes of its stream.</summary>
    public static byte[] Saved(KeyValueCache cache, CacheSequence sequence)
    {
        var stream = new MemoryStream();
        cache.Save(sequence, stream);
        return stream.ToArray();
    }

    private static byte[] Pool<T>(ReadOnlyTensorSpan<T> tensor)
        where T : unmanaged
    {
        if (tensor.IsEmpty) return [];
        T[] all = new T[tensor.FlattenedLength];
        tensor.FlattenTo(all);
        return MemoryMarshal.AsBytes(all.AsSpan()).ToArray();
    }
}
