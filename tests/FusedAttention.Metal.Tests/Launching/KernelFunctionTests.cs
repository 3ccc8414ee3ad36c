using FusedAttention.Devices;
using FusedAttention.Metal.Launching;
using FusedAttention.Metal.Planning;
using Xunit;

namespace FusedAttention.Metal.Tests.Launching;

public sealed class KernelFunctionTests
{
    /// <summary>The hash is kept, so a function that is made out of another one must not have the other's.</summary>
    [Fact]
    public void A_function_that_differs_has_a_hash_of_its_own()
    {
        var function = new KernelFunction(KernelFamily.Plain, "attend", [new("HEAD_DIM", "64")], [FunctionConstants.Flag(0, "has_mask", true)]);
        int hash = function.GetHashCode();
        KernelFunction other = function with { Definitions = [new("HEAD_DIM", "128")] };
        Assert.NotEqual(function, other);
        Assert.NotEqual(hash, other.GetHashCode());

        // Back again by value, from the changed one: equal functions share a pipeline.
        KernelFunction back = other with { Definitions = [new("HEAD_DIM", "64")] };
        Assert.Equal(function, back);
        Assert.Equal(hash, back.GetHashCode());
    }

    [Fact]
    public void Equal_traits_are_the_same_function()
    {
        KernelTraits traits = new(AttentionElementType.Float16, AttentionElementType.Float16, 64, 64, CallFeatures.Mask | CallFeatures.Aligned, 16, default);
        KernelFunction function = KernelLibrary.Main(AttentionKernel.Decode, traits);
        Assert.Same(function, KernelLibrary.Main(AttentionKernel.Decode, traits with { }));
        KernelFunction[] others =
        [
            KernelLibrary.MergeSplits(AttentionKernel.Decode, traits),
            KernelLibrary.Main(AttentionKernel.Plain, traits),
            KernelLibrary.Main(AttentionKernel.Decode, traits with { BlockSize = 32 }),
            KernelLibrary.Main(AttentionKernel.Decode, traits with { Features = CallFeatures.Aligned }),
            KernelLibrary.Main(AttentionKernel.Decode, traits with { ValueDim = 128 }),
        ];
        Assert.DoesNotContain(function, others);
        Assert.Equal(others.Length, others.Distinct().Count());
    }
}
