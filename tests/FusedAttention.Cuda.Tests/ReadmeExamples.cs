using Xunit;

namespace FusedAttention.Cuda.Tests;

/// <summary>The example of the README that needs a CUDA device, as those of FusedAttention.Tests.</summary>
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
}
