using System.Text.RegularExpressions;
using FusedAttention.Cuda.Launching;
using FusedAttention.Cuda.Planning;
using FusedAttention.Problems;
using Xunit;

namespace FusedAttention.Cuda.Tests.Assembly;

/// <summary>How many products of warpgroups a text has: the first call of a kernel waits for the assembler, whose time grows with the square of that.</summary>
public sealed partial class ProductCountTests
{
    private static readonly CudaDeviceDescription Hopper = new(0, "sm_90a", 9, 0, 132, 232448, 80L << 30, 13000);

    /// <summary>Products with keys of a tile, one more in a loop, and those with values: of tiles that are speculated on, and of others or of the last, which have each their own where they are few.</summary>
    /// <param name="dim">Elements of keys and of values.</param>
    /// <param name="isCausal">Whether the mask is causal.</param>
    /// <param name="softCap">Of scores; 0: none.</param>
    /// <param name="operands">Masks and biases.</param>
    /// <param name="ofKeys">A sixteenth of the dimension.</param>
    /// <param name="ofValues">A sixteenth of a tile's keys.</param>
    /// <param name="places">Where products with values stand.</param>
    [Theory]
    [InlineData(64, true, 0, OperandKinds.None, 4, 8, 3)]
    [InlineData(128, true, 0, OperandKinds.None, 8, 8, 2)]
    [InlineData(128, true, 0, OperandKinds.BooleanMask, 8, 8, 2)]
    [InlineData(128, true, 0, OperandKinds.BiasFloat16, 8, 8, 2)]
    [InlineData(128, true, 50, OperandKinds.None, 8, 8, 2)]
    [InlineData(128, false, 0, OperandKinds.None, 8, 11, 2)]
    [InlineData(256, true, 0, OperandKinds.None, 16, 5, 2)]
    public void Products_are_there_no_oftener_than_they_are_fast(int dim, bool isCausal, float softCap, OperandKinds operands, int ofKeys, int ofValues, int places)
    {
        AttentionOptions options = new() { SoftCap = softCap, Mask = isCausal ? AttentionMask.Causal : AttentionMask.Full };
        string text = CudaPlan.Of(ShapeProblem.Dense<Half, Half>(new(1, 4096, 4096, 8, 8, dim, dim), options, operands), Hopper, isAligned: true, form: PrefillForm.Warpgroups).FunctionAt(0).Text;
        Assert.Equal(ofKeys + 1 + (places * ofValues), Products().Count(text));
    }

    [GeneratedRegex("wgmma\\.mma_async", RegexOptions.CultureInvariant, 5000)]
    private static partial Regex Products();
}
