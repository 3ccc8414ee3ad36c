using FusedAttention.Devices;
using FusedAttention.Problems;
using Xunit;

namespace FusedAttention.Tests.Devices;

public sealed class KernelChoiceTests
{
    [Theory]
    [InlineData(true, true, false, "Prefill", "Decode", true)]
    [InlineData(true, false, false, "Prefill", "Plain", true)]
    [InlineData(false, true, false, "Plain", "Decode", true)]
    [InlineData(false, false, false, "Plain", "Plain", true)]
    [InlineData(true, true, true, "Prefill", "Prefill", false)]
    [InlineData(false, true, true, "Plain", "Plain", false)]
    public void Follows_from_what_the_kernels_take(bool hasPrefill, bool hasDecode, bool rowInvariant, string many, string few, bool splits)
    {
        KernelChoice choice = KernelChoice.Of(new AttentionProblem { RowInvariant = rowInvariant }, hasPrefill, hasDecode);
        Assert.Equal((many, few, splits), (choice.Many.ToString(), choice.Few.ToString(), choice.Splits));
    }

    [Fact]
    public void A_forced_kernel_takes_all_or_is_refused()
    {
        var problem = new AttentionProblem { KeyDim = 100, ValueDim = 33 };
        Assert.Equal(new(AttentionKernel.Plain, AttentionKernel.Plain, Splits: true), KernelChoice.Of(problem, true, true, AttentionKernel.Plain));
        Assert.Equal(new(AttentionKernel.Prefill, AttentionKernel.Prefill, Splits: false), KernelChoice.Of(problem, true, true, AttentionKernel.Prefill));
        foreach (AttentionKernel kernel in (AttentionKernel[])[AttentionKernel.Prefill, AttentionKernel.Decode])
        {
            var error = Assert.Throws<NotSupportedException>(() => KernelChoice.Of(problem, false, false, kernel));
            Assert.Contains("100/33", error.Message, StringComparison.Ordinal);
        }
    }
}
