namespace FusedAttention.Cli.Checks;

/// <summary>Checks of what only the Metal backend has: the layout of simdgroup matrices, merging on the device, the device's paged cache.</summary>
internal static class MetalChecks
{
    public static IEnumerable<Check> Of(MetalDevice device) =>
    [
        new LaneMapCheck(device),
        new MergeCheck<float, float>("fp32", device, Dim: 64, HasSinks: false),
        new MergeCheck<float, Half>("fp32 to fp16, sinks", device, Dim: 33, HasSinks: true),
        new MergeCheck<Half, Half>("fp16", device, Dim: 128, HasSinks: false),
        new MergeCheck<Half, float>("fp16 to fp32", device, Dim: 20, HasSinks: false),
        new MergeCheck<BFloat16, BFloat16>("bf16, sinks", device, Dim: 96, HasSinks: true),
        new MergeCheck<BFloat16, float>("bf16 to fp32", device, Dim: 512, HasSinks: false),
        new CacheCheck<float>("fp32, blocks of 7", device, BlockSize: 7, KeyDim: 20, ValueDim: 12),
        new CacheCheck<Half>("fp16, blocks of 16", device, BlockSize: 16, KeyDim: 64, ValueDim: 64),
        new CacheCheck<BFloat16>("bf16, blocks of 1", device, BlockSize: 1, KeyDim: 33, ValueDim: 64),
    ];
}
