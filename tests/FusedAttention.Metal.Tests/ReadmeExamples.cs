using Xunit;

namespace FusedAttention.Metal.Tests;

/// <summary>The example of the README that needs a Metal device, as those of FusedAttention.Tests.</summary>
public sealed class ReadmeExamples
{
    [Fact]
    public void Metal()
    {
        // README: Metal
        if (!MetalDevice.IsSupported) return; // MetalDevice.UnsupportedReason says why

        // 2,048 tokens, 32 query heads over 8 key/value heads. The spans of a tensor are the memory that the GPU works on: nothing is copied.
        MetalDevice device = MetalDevice.Default;
        using MetalTensor<Half> query = device.Allocate<Half>(2048, 32, 128);
        using MetalTensor<Half> key = device.Allocate<Half>(2048, 8, 128);
        using MetalTensor<Half> value = device.Allocate<Half>(2048, 8, 128);
        using MetalTensor<Half> output = device.Allocate<Half>(2048, 32, 128);
        value.AsSpan().Fill((Half)3);

        MetalAttention.Forward(query, key, value, output, new AttentionOptions { Mask = AttentionMask.Causal }); // returns when the work is queued
        Half last = output.AsReadOnlySpan()[^1]; // waits for it
        // README: end
        query.AsSpan().Clear();
        key.AsSpan().Clear();
        MetalAttention.Forward(query, key, value, output, new AttentionOptions { Mask = AttentionMask.Causal });
        last = output.AsReadOnlySpan()[^1];
        Assert.Equal((Half)3, last);
    }
}
