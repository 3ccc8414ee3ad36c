using Xunit;

namespace FusedAttention.Cuda.Tests;

/// <summary>The examples of the README and of docs/cuda.md that need a CUDA device, as those of FusedAttention.Tests.</summary>
public sealed class ReadmeExamples
{
    [Fact]
    public void Cuda()
    {
        // README: Cuda
        if (!CudaDevice.IsSupported) return; // CudaDevice.UnsupportedReason says why

        // 2,048 tokens, 32 query heads over 8 key/value heads, in memory of the device.
        CudaDevice device = CudaDevice.Default;
        using CudaTensor<Half> query = device.Allocate<Half>(2048, 32, 128);
        using CudaTensor<Half> key = device.Allocate<Half>(2048, 8, 128);
        using CudaTensor<Half> value = device.Allocate<Half>(2048, 8, 128);
        using CudaTensor<Half> output = device.Allocate<Half>(2048, 32, 128);
        query.CopyFrom(new Half[2048 * 32 * 128]);
        key.CopyFrom(new Half[2048 * 8 * 128]);
        value.CopyFrom(Enumerable.Repeat((Half)3, 2048 * 8 * 128).ToArray());

        CudaAttention.Forward(query, key, value, output, new AttentionOptions { Mask = AttentionMask.Causal }); // returns when the work is queued
        Half[] result = new Half[2048 * 32 * 128];
        output.CopyTo(result); // waits for it
        // README: end
        Assert.All(result, static element => Assert.Equal((Half)3, element));
    }

    [Fact]
    public void CudaCache()
    {
        Assert.SkipUnless(CudaDevice.IsSupported, CudaDevice.UnsupportedReason ?? "");
        Half[] newKey = [.. Enumerable.Repeat((Half)1, 8 * 128)], row = new Half[32 * 128];
        const int Layer = 31;

        // README: CudaCache
        CudaDevice device = CudaDevice.Default;                               // CudaDevice.UnsupportedReason says why there is none
        using CudaTensor<Half> query = device.Allocate<Half>(1, 32, 128), output = device.Allocate<Half>(1, 32, 128);
        using CudaTensor<Half> keys = device.Allocate<Half>(1, 8, 128), values = device.Allocate<Half>(1, 8, 128);
        using var cache = new CudaPagedKeyValueCache<Half>(device, new() { Blocks = 4096, BlockSize = 16, KeyValueHeads = 8, KeyDim = 128, Layers = 32 });
        CacheSequence sequence = cache.CreateSequence();
        PagedBatch batch = cache.CreateBatch();
        cache.Extend(sequence, 1);
        batch.Add(sequence, 1);

        query.CopyFrom(new Half[32 * 128]);
        keys.CopyFrom(newKey);
        values.CopyFrom(newKey);
        cache.Write(Layer, batch, keys, values);                              // tensors of the device; queued
        CudaAttention.ForwardPaged(query, output, cache, Layer, batch, new AttentionOptions { Mask = AttentionMask.Causal }); // queued behind it
        output.CopyTo(row);                                                   // waits
        // README: end
        Assert.All(row, static element => Assert.Equal((Half)1, element));
    }
}
