using FusedAttention.Metal.DropIn;
using FusedAttention.Metal.Emulation;
using Xunit;

namespace FusedAttention.Metal.Tests.DropIn;

/// <summary>
/// Budgets of the drop-in's paged kernels, as <see cref="ProxyBudgetTests"/> has those of the library. Their blocks have a size that only the call knows, and rows may be shorter than the kernels' dimensions. Each copy is compiled on its own, in place of the
/// entry points, which have all of them.
/// </summary>
[Slow]
public sealed class DropInBudgetTests(ITestOutputHelper output)
{
    private const string FirstEntryPoint = "kernel void fused_attention(";

    [Theory]
    [InlineData("paged_64", 64, 0, 0, 12600, 1015)]
    [InlineData("paged_128", 128, 0, 0, 20400, 1680)]
    [InlineData("paged_general_64", 64, 8, 0, 19250, 1660)]
    [InlineData("paged_general_128", 128, 48, 10, 31900, 2850)]
    public void Paged_kernels_keep_to_their_budgets(string variant, int dim, int spilledBytes, int loopSpills, int codeBytes, int cycles)
    {
        Assert.SkipWhen(EmulatorToolchain.SkipReason is not null, EmulatorToolchain.SkipReason ?? "");
        string text = DropInSource.Compose(dim);
        ProxyKernel compiled = ProxyCompiler.Compile(string.Concat(text.AsSpan(0, text.IndexOf(FirstEntryPoint, StringComparison.Ordinal)), EntryPoint(variant)), "one_token", threads: 256);
        output.WriteLine($"{compiled}, {compiled.Loop.OtherCycles} cycles");
        Assert.True(
            compiled.SpilledBytes <= spilledBytes && compiled.Loop.Spills <= loopSpills && compiled.CodeBytes <= codeBytes && compiled.Loop.OtherCycles <= cycles,
            $"{spilledBytes} bytes spilled, {loopSpills} spills in the loop, {codeBytes} bytes of code and {cycles} cycles a tile are allowed: {compiled}, {compiled.Loop.OtherCycles} cycles");
    }

    private static string EntryPoint(string variant) => $$"""
        kernel void one_token(
            device const half *query [[buffer(0)]],
            device const half *key_cache [[buffer(1)]],
            device const half *value_cache [[buffer(2)]],
            device const uint *table [[buffer(3)]],
            device half *output [[buffer(5)]],
            constant PagedAttentionParams &params [[buffer(6)]],
            constant int &key_count [[buffer(7)]],
            uint3 place [[threadgroup_position_in_grid]],
            uint simdgroup_index [[simdgroup_index_in_threadgroup]],
            uint lane [[thread_index_in_simdgroup]])
        {
            threadgroup float4 shared_outputs[MOST_SHARED_OUTPUTS];
            threadgroup float2 shared_statistics[SIMDGROUPS / 2];
            threadgroup int2 special_keys[MOST_SIMDGROUPS];
            PagedAttentionParams call = {
                params.num_heads, params.num_kv_heads, params.head_dim, params.block_size, params.num_blocks, params.scale, params.causal, params.table_stride};
            {{variant}}::attend_token(
                query, key_cache, value_cache, table, output, call, place.x, place.y, key_count, shared_outputs, shared_statistics, special_keys, simdgroup_index, lane);
        }
        """;
}
