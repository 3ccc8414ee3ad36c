using FusedAttention.Devices;
using FusedAttention.Metal.Emulation;
using FusedAttention.Metal.Planning;
using FusedAttention.Tensors;
using Xunit;

namespace FusedAttention.Metal.Tests;

/// <summary>
/// Budgets of the kernels' main loops, in a compiler that is not Apple's (<see cref="ProxyCompiler"/>): spills, 64-bit products, cycles beside the matrix products. A budget is what was reached and a little; who reaches
/// more lowers it, and who needs more has a reason to write down.
/// </summary>
[Slow]
public sealed class ProxyBudgetTests(ITestOutputHelper output)
{
    /// <summary>All features but the soft cap: its tanh is a call there, in front of which everything is spilled.</summary>
    private const CallFeatures AllFeatures = CallFeatures.Mask | CallFeatures.Bias | CallFeatures.Alibi | CallFeatures.Sinks | CallFeatures.LogSumExp;

    /// <summary>A prefill spills nothing, and has no 64-bit product in its main loop. Where two simdgroups share the dimensions, the loop is that of the one with the softmax.</summary>
    [Theory]
    [InlineData(AttentionElementType.Float16, 32, 0, false, 7670, 300)]
    [InlineData(AttentionElementType.Float16, 64, 0, false, 9530, 393)]
    [InlineData(AttentionElementType.Float16, 64, 16, false, 9630, 393)]
    [InlineData(AttentionElementType.Float16, 80, 0, false, 10600, 450)]
    [InlineData(AttentionElementType.Float16, 96, 0, false, 9740, 535)]
    [InlineData(AttentionElementType.Float16, 128, 0, false, 8020, 362)]
    [InlineData(AttentionElementType.Float16, 128, 16, false, 8120, 362)]
    [InlineData(AttentionElementType.Float16, 128, 32, false, 8220, 362)]
    [InlineData(AttentionElementType.Float16, 128, 0, true, 10000, 505)]
    [InlineData(AttentionElementType.Float16, 136, 0, false, 8660, 404)]
    [InlineData(AttentionElementType.Float16, 160, 0, false, 9070, 427)]
    [InlineData(AttentionElementType.Float16, 192, 0, false, 10060, 480)]
    [InlineData(AttentionElementType.Float16, 192, 0, true, 12040, 624)]
    [InlineData(AttentionElementType.Float16, 248, 0, false, 10390, 375)]
    [InlineData(AttentionElementType.Float16, 256, 0, false, 10330, 371)]
    [InlineData(AttentionElementType.Float16, 256, 0, true, 12350, 515)]
    [InlineData(AttentionElementType.BFloat16, 48, 0, false, 10000, 421)]
    [InlineData(AttentionElementType.BFloat16, 64, 0, false, 11230, 475)]
    [InlineData(AttentionElementType.BFloat16, 64, 16, false, 11320, 475)]
    [InlineData(AttentionElementType.BFloat16, 128, 0, false, 9910, 525)]
    [InlineData(AttentionElementType.BFloat16, 160, 0, false, 9700, 406)]
    [InlineData(AttentionElementType.BFloat16, 256, 0, false, 12220, 534)]
    [InlineData(AttentionElementType.Float32, 32, 0, false, 7390, 313)]
    [InlineData(AttentionElementType.Float32, 64, 0, false, 9150, 425)]
    [InlineData(AttentionElementType.Float32, 128, 0, false, 7660, 415)]
    [InlineData(AttentionElementType.Float32, 192, 0, false, 9010, 357)]
    [InlineData(AttentionElementType.Float32, 256, 0, false, 8900, 299)]
    public void Prefills_keep_to_their_budgets(AttentionElementType type, int dim, int blockSize, bool hasFeatures, int codeBytes, int otherCycles) =>
        AssertWithin(AttentionKernel.Prefill, Traits(type, type, dim, hasFeatures, blockSize), spilledBytes: 0, codeBytes, longProducts: 0, otherCycles, loopSpills: 0);

    /// <summary>A decode has no 64-bit product in its main loop, and spills what only its beginning and its end need, if anything: at most three stores and loads are in the loop, or nine with all features at D = 256 in floats.</summary>
    [Theory]
    [InlineData(AttentionElementType.Float16, 64, 0, false, 0, 0, 13750, 415)]
    [InlineData(AttentionElementType.Float16, 96, 16, false, 0, 0, 14050, 702)]
    [InlineData(AttentionElementType.Float16, 128, 0, false, 0, 0, 15400, 742)]
    [InlineData(AttentionElementType.Float16, 128, 16, false, 0, 0, 15350, 735)]
    [InlineData(AttentionElementType.Float16, 128, 0, true, 48, 2, 21200, 785)]
    [InlineData(AttentionElementType.Float16, 256, 0, false, 40, 3, 26000, 1716)]
    [InlineData(AttentionElementType.Float16, 256, 0, true, 48, 2, 30600, 1772)]
    [InlineData(AttentionElementType.BFloat16, 128, 0, false, 8, 0, 15550, 840)]
    [InlineData(AttentionElementType.BFloat16, 256, 0, false, 40, 3, 24900, 2099)]
    [InlineData(AttentionElementType.Float32, 128, 0, false, 0, 0, 13050, 771)]
    [InlineData(AttentionElementType.Float32, 256, 0, false, 40, 3, 22200, 1860)]
    [InlineData(AttentionElementType.Float16, 56, 0, true, 0, 0, 18100, 797)]
    [InlineData(AttentionElementType.Float16, 72, 0, true, 0, 0, 20600, 936)]
    [InlineData(AttentionElementType.Float16, 88, 0, false, 0, 0, 18500, 1033)]
    [InlineData(AttentionElementType.Float16, 88, 0, true, 0, 0, 22500, 1072)]
    [InlineData(AttentionElementType.Float16, 224, 0, false, 0, 0, 29900, 2180)]
    [InlineData(AttentionElementType.Float16, 224, 0, true, 12, 0, 34000, 2210)]
    [InlineData(AttentionElementType.BFloat16, 88, 0, true, 0, 0, 23300, 1368)]
    [InlineData(AttentionElementType.BFloat16, 224, 0, true, 16, 0, 34800, 2900)]
    [InlineData(AttentionElementType.BFloat16, 256, 0, true, 56, 4, 30050, 2156)]
    [InlineData(AttentionElementType.Float32, 72, 0, true, 0, 0, 19500, 1014)]
    [InlineData(AttentionElementType.Float32, 88, 0, false, 0, 0, 17150, 1129)]
    [InlineData(AttentionElementType.Float32, 88, 0, true, 12, 0, 21200, 1168)]
    [InlineData(AttentionElementType.Float32, 224, 0, true, 0, 0, 34600, 3030)]
    [InlineData(AttentionElementType.Float32, 256, 0, true, 76, 9, 26950, 1887)]
    public void Decodes_keep_to_their_budgets(AttentionElementType type, int dim, int blockSize, bool hasFeatures, int spilledBytes, int loopSpills, int codeBytes, int otherCycles) =>
        AssertWithin(AttentionKernel.Decode, Traits(type, type, dim, hasFeatures, blockSize), spilledBytes, codeBytes, longProducts: 0, otherCycles, loopSpills);

    /// <summary>Blocks that a tile does not fit into, whose addresses are looked up one key a lane: two 64-bit products for keys and two for values.</summary>
    [Theory]
    [InlineData(AttentionElementType.Float16, 88, 16, 17200, 1076)]
    [InlineData(AttentionElementType.Float16, 128, 1, 15000, 780)]
    [InlineData(AttentionElementType.Float32, 64, 2, 12350, 503)]
    public void Decodes_over_small_blocks_keep_to_their_budgets(AttentionElementType type, int dim, int blockSize, int codeBytes, int otherCycles) =>
        AssertWithin(AttentionKernel.Decode, Traits(type, type, dim, hasFeatures: false, blockSize), spilledBytes: 0, codeBytes, longProducts: 4, otherCycles, loopSpills: 0);

    /// <summary>
    /// Every row of the tile table, and the last dimension in front of each of its steps, with everything that a call may have. E4M3 under queries that are not halves spills 12 bytes from D = 248 on, once in the loop, and nothing without features. A run in CI takes the last dimensions in front of a step of the type's own, which have the most registers.
    /// </summary>
    [Theory]
    [InlineData(AttentionElementType.Float16, AttentionElementType.Float16, 0)]
    [InlineData(AttentionElementType.BFloat16, AttentionElementType.BFloat16, 0)]
    [InlineData(AttentionElementType.Float32, AttentionElementType.Float32, 0)]
    [InlineData(AttentionElementType.Float32, AttentionElementType.Float16, 0)]
    [InlineData(AttentionElementType.Float32, AttentionElementType.BFloat16, 0)]
    [InlineData(AttentionElementType.Float16, AttentionElementType.Int8, 0)]
    [InlineData(AttentionElementType.Float16, AttentionElementType.Float8E4M3, 0)]
    [InlineData(AttentionElementType.BFloat16, AttentionElementType.Float8E4M3, 12)]
    [InlineData(AttentionElementType.Float32, AttentionElementType.Float8E4M3, 12)]
    public void No_prefill_spills(AttentionElementType query, AttentionElementType keyValue, int bytesOfTheLargest)
    {
        Assert.SkipWhen(EmulatorToolchain.SkipReason is not null, EmulatorToolchain.SkipReason ?? "");
        if (keyValue.IsEightBit()) Assert.SkipUnless(MetalProblems.IsWhole, "The budgets have some of them: set FUSEDATTENTION_EMULATED_ALL=1 for all.");
        var spilled = new List<string>();
        PrefillTile TileOf(int dim) => TileTable.Prefill(dim, dim, query, keyValue)!.Value;
        foreach (int dim in (int[])[48, 64, 72, 80, 88, 96, 104, 128, 136, 144, 152, 160, 176, 192, 200, 224, 248, 256])
        {
            if (!MetalProblems.IsWhole && dim is not (128 or 256) && TileOf(dim) with { ThreadgroupBytes = 0 } == TileOf(dim + 8) with { ThreadgroupBytes = 0 }) continue;
            ProxyKernel compiled = Compile(AttentionKernel.Prefill, WithScales(Traits(query, keyValue, dim, hasFeatures: true, blockSize: 0)));
            output.WriteLine($"{dim}: {compiled.Registers} registers, {compiled.SpilledBytes} bytes spilled");
            if (compiled.SpilledBytes > (dim >= 248 ? bytesOfTheLargest : 0)) spilled.Add($"{dim}: {compiled.SpilledBytes} bytes");
        }

        Assert.Empty(spilled);
    }

    /// <summary>A distance with a slope, and documents: what is known of a row and its functions fits the registers too, but for two of them in floats, outside of the loop.</summary>
    [Theory]
    [InlineData(AttentionElementType.Float16, 64, 0)]
    [InlineData(AttentionElementType.Float16, 128, 0)]
    [InlineData(AttentionElementType.Float16, 256, 0)]
    [InlineData(AttentionElementType.BFloat16, 128, 0)]
    [InlineData(AttentionElementType.Float32, 128, 8)]
    public void Prefills_with_functions_keep_to_their_budgets(AttentionElementType type, int dim, int spilledBytes)
    {
        Assert.SkipWhen(EmulatorToolchain.SkipReason is not null, EmulatorToolchain.SkipReason ?? "");
        ProxyKernel compiled = Compile(AttentionKernel.Prefill, Traits(type, type, dim, hasFeatures: false, blockSize: 0) with
        {
            Score = ScoreFunction.Of(new LinearBias(new ScoreTable([1]))).Graph.Form,
            Keep = MaskFunction.Of(new DocumentMask([0, 1])).Graph.Form,
        });
        output.WriteLine($"{compiled}, matrix share {compiled.Loop.MatrixShare:0.00}, {compiled.Loop.OtherCycles} cycles beside");
        Assert.True(compiled.SpilledBytes <= spilledBytes && compiled.Loop.Spills == 0, $"{spilledBytes} bytes may be spilled, outside of the loop: {compiled}");
    }

    /// <summary>Keys and values of 8 bits with scales of every token, whose addresses may be two 64-bit products of a thread in a tile. Decoding int8 takes no more cycles than decoding halves, and E4M3 two fifths more, for its widening.</summary>
    [Theory]
    [InlineData(AttentionElementType.Float16, AttentionElementType.Float8E4M3, 128, 16, 0, 2, 9980, 561)]
    [InlineData(AttentionElementType.Float32, AttentionElementType.Float8E4M3, 256, 0, 0, 0, 12360, 581)]
    public void Prefills_over_codes_keep_to_their_budgets(
        AttentionElementType query, AttentionElementType codes, int dim, int blockSize, int spilledBytes, int longProducts, int codeBytes, int otherCycles) =>
        AssertWithin(AttentionKernel.Prefill, WithScales(Traits(query, codes, dim, hasFeatures: false, blockSize)), spilledBytes, codeBytes, longProducts, otherCycles, loopSpills: 0);

    /// <inheritdoc cref="Prefills_over_codes_keep_to_their_budgets"/>
    [Theory]
    [InlineData(AttentionElementType.Float16, AttentionElementType.Int8, 128, 16, 0, 15550, 720)]
    [InlineData(AttentionElementType.Float16, AttentionElementType.Float8E4M3, 128, 0, 0, 17400, 1028)]
    public void Decodes_over_codes_keep_to_their_budgets(AttentionElementType query, AttentionElementType codes, int dim, int blockSize, int spilledBytes, int codeBytes, int otherCycles) =>
        AssertWithin(AttentionKernel.Decode, WithScales(Traits(query, codes, dim, hasFeatures: false, blockSize)), spilledBytes, codeBytes, longProducts: 0, otherCycles, loopSpills: 0);

    /// <summary>Of codes.</summary>
    private static KernelTraits WithScales(in KernelTraits traits) => !traits.KeyValueType.IsEightBit() ? traits : traits with { Features = traits.Features | CallFeatures.KeyScale | CallFeatures.ValueScale };

    private static KernelTraits Traits(AttentionElementType query, AttentionElementType keyValue, int dim, bool hasFeatures, int blockSize) =>
        new(query, keyValue, dim, dim, CallFeatures.Aligned | (hasFeatures ? AllFeatures : CallFeatures.None), blockSize, AttentionElementType.Float32);

    private static ProxyKernel Compile(AttentionKernel kernel, in KernelTraits traits)
    {
        int simdgroups = kernel == AttentionKernel.Prefill
            ? TileTable.Prefill(traits.KeyDim, traits.ValueDim, traits.QueryType, traits.KeyValueType)!.Value.Simdgroups
            : TileTable.Decode(traits.KeyDim, traits.ValueDim, traits.KeyValueType)!.Value.Simdgroups;
        return ProxyCompiler.Compile(KernelLibrary.Main(kernel, traits), threads: 32 * simdgroups);
    }

    private void AssertWithin(AttentionKernel kernel, in KernelTraits traits, int spilledBytes, int codeBytes, int longProducts, int otherCycles, int loopSpills)
    {
        Assert.SkipWhen(EmulatorToolchain.SkipReason is not null, EmulatorToolchain.SkipReason ?? "");
        ProxyKernel compiled = Compile(kernel, traits);
        output.WriteLine($"{compiled}, matrix share {compiled.Loop.MatrixShare:0.00}, {compiled.Loop.OtherCycles} cycles beside");
        Assert.True(
            compiled.SpilledBytes <= spilledBytes && compiled.Loop.Spills <= loopSpills && compiled.CodeBytes <= codeBytes && compiled.Loop.LongProducts <= longProducts && compiled.Loop.OtherCycles <= otherCycles,
            $"{spilledBytes} bytes spilled, {loopSpills} spills in the loop, {codeBytes} bytes of code, {longProducts} 64-bit products and {otherCycles} cycles beside matrix products are allowed: {compiled}, {compiled.Loop.OtherCycles} cycles");
    }
}
