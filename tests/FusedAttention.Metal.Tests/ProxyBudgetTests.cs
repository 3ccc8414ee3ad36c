using FusedAttention.Devices;
using FusedAttention.Metal.Emulation;
using FusedAttention.Metal.Launching;
using FusedAttention.Metal.Planning;
using FusedAttention.Problems;
using Xunit;

namespace FusedAttention.Metal.Tests;

/// <summary>
/// Budgets of the kernels' main loops, in a compiler that is not Apple's (<see cref="ProxyCompiler"/>): spills, 64-bit products, cycles beside the matrix products. A budget is what was reached and a little; who reaches
/// more lowers it, and who needs more has a reason to write down.
/// </summary>
[Slow]
public sealed class ProxyBudgetTests(ITestOutputHelper output)
{
    [Theory]
    [InlineData(nameof(AttentionKernel.Prefill), AttentionElementType.Float16, 32, 0, 0, 7970, 0, 310)]
    [InlineData(nameof(AttentionKernel.Prefill), AttentionElementType.Float16, 64, 0, 0, 10080, 0, 430)]
    [InlineData(nameof(AttentionKernel.Prefill), AttentionElementType.Float16, 80, 0, 70, 10720, 0, 580)]
    [InlineData(nameof(AttentionKernel.Prefill), AttentionElementType.Float16, 128, 0, 80, 9740, 0, 470)]
    [InlineData(nameof(AttentionKernel.Prefill), AttentionElementType.Float16, 192, 0, 200, 13510, 0, 730)]
    [InlineData(nameof(AttentionKernel.Prefill), AttentionElementType.Float16, 256, 0, 310, 16410, 0, 930)]
    [InlineData(nameof(AttentionKernel.Prefill), AttentionElementType.BFloat16, 128, 0, 130, 11940, 0, 650)]
    [InlineData(nameof(AttentionKernel.Prefill), AttentionElementType.BFloat16, 48, 0, 0, 10780, 0, 480)]
    [InlineData(nameof(AttentionKernel.Prefill), AttentionElementType.BFloat16, 64, 0, 0, 10120, 0, 640)]
    [InlineData(nameof(AttentionKernel.Prefill), AttentionElementType.Float32, 32, 0, 0, 7680, 0, 330)]
    [InlineData(nameof(AttentionKernel.Prefill), AttentionElementType.Float32, 64, 0, 0, 8750, 0, 530)]
    [InlineData(nameof(AttentionKernel.Prefill), AttentionElementType.Float32, 128, 0, 140, 9780, 0, 570)]
    [InlineData(nameof(AttentionKernel.Decode), AttentionElementType.Float16, 64, 0, 180, 20200, 4, 1110)]
    [InlineData(nameof(AttentionKernel.Decode), AttentionElementType.Float16, 128, 0, 230, 25140, 8, 1820)]
    [InlineData(nameof(AttentionKernel.Decode), AttentionElementType.Float16, 256, 0, 550, 47930, 16, 4410)]
    [InlineData(nameof(AttentionKernel.Prefill), AttentionElementType.Float16, 64, 16, 0, 10540, 0, 430)]
    [InlineData(nameof(AttentionKernel.Prefill), AttentionElementType.Float16, 128, 16, 70, 9970, 0, 470)]
    [InlineData(nameof(AttentionKernel.Prefill), AttentionElementType.Float16, 128, 32, 80, 10100, 0, 470)]
    [InlineData(nameof(AttentionKernel.Decode), AttentionElementType.Float16, 128, 16, 220, 26450, 16, 2050)]
    public void Main_loops_keep_to_their_budgets(string kernel, AttentionElementType type, int dim, int blockSize, int spilledBytes, int codeBytes, int longProducts, int otherCycles)
    {
        Assert.SkipWhen(EmulatorToolchain.SkipReason is not null, EmulatorToolchain.SkipReason ?? "");
        var problem = new AttentionProblem { QueryType = type, KeyValueType = type, KeyDim = dim, ValueDim = dim, BlockSize = blockSize };
        KernelFunction function = KernelLibrary.Main(Enum.Parse<AttentionKernel>(kernel), KernelTraits.Of(problem, isAligned: true));
        ProxyKernel compiled = ProxyCompiler.Compile(function, threads: 128);
        output.WriteLine($"{compiled}, matrix share {compiled.Loop.MatrixShare:0.00}, {compiled.Loop.OtherCycles} cycles beside");
        Assert.True(
            compiled.SpilledBytes <= spilledBytes && compiled.CodeBytes <= codeBytes && compiled.Loop.LongProducts <= longProducts && compiled.Loop.OtherCycles <= otherCycles,
            $"{spilledBytes} bytes spilled, {codeBytes} bytes of code, {longProducts} 64-bit products and {otherCycles} cycles beside matrix products are allowed: {compiled}, {compiled.Loop.OtherCycles} cycles");
    }
}
