using System.Globalization;
using FusedAttention.Cuda.Launching;
using FusedAttention.Cuda.Planning;
using FusedAttention.Devices;
using Xunit;

namespace FusedAttention.Cuda.Tests.Assembly;

/// <summary>Kernels for keys and values of 8 bits through NVIDIA's assembler: nothing is refused or warned about, nothing leaves the registers, and as many blocks fit a multiprocessor as the plan counts on.</summary>
[Slow]
public sealed class EightBitAssemblyTests(ITestOutputHelper output)
{
    private const int RegistersOfMultiprocessor = 65536;

    private static readonly CudaDeviceDescription Hopper = new(0, "sm_90a", 9, 0, 132, 232448, 80L << 30, 13000);
    private static readonly CudaDeviceDescription Ampere = new(0, "sm_80", 8, 0, 108, 166912, 40L << 30, 13000);

    private static readonly (int Key, int Value)[] Dims = [(128, 128), (64, 64), (80, 80), (192, 128), (16, 16)];

    private const CallFeatures Scales = CallFeatures.KeyScale | CallFeatures.ValueScale;

    private static readonly CallFeatures[] Features =
    [
        CallFeatures.Aligned | Scales, CallFeatures.Aligned,
        CallFeatures.Aligned | Scales | CallFeatures.Alibi | CallFeatures.SoftCap | CallFeatures.Sinks | CallFeatures.LogSumExp,
    ];

    private static readonly (AttentionElementType Query, AttentionElementType KeyValue)[] Types =
    [
        (AttentionElementType.Float16, AttentionElementType.Int8), (AttentionElementType.BFloat16, AttentionElementType.Float8E4M3),
        (AttentionElementType.BFloat16, AttentionElementType.Int8), (AttentionElementType.Float16, AttentionElementType.Float8E4M3),
    ];

    [Fact]
    public void Kernels_assemble_without_spilling()
    {
        Assert.SkipUnless(PtxAssembler.Program is not null, PtxAssembler.SkipReason);
        var failures = new List<string>();
        int number = 0;
        foreach ((int key, int value) in Dims)
        {
            foreach ((AttentionElementType query, AttentionElementType keyValue) in Types)
            {
                number++;
                int block = number % 3 == 0 ? 16 : 0;
                var traits = new KernelTraits(query, keyValue, key, value, key == 128 && number < 3 ? Features[0] : Features[number % 3], block, default);
                foreach (CudaDeviceDescription device in (CudaDeviceDescription[])[Hopper, Ampere])
                {
                    var tile = TileTable.Decode(key, value, device, 1)!.Value;
                    var tiles = new KernelTiles(TileTable.Prefill(key, value, device, traits.Features, 1), null, default, tile, default, 1, null, 1);
                    Check(KernelLibrary.Of(AttentionKernel.Decode, traits, tiles), tile.Blocks, device, failures);
                    Check(KernelLibrary.Of(AttentionKernel.Prefill, traits, tiles), tiles.Prefill!.Value.Blocks, device, failures);
                    if (device == Hopper)
                    {
                        var boxes = TileTable.DecodeBoxes(key, value, device, 1)!.Value;
                        Check(KernelLibrary.Of(AttentionKernel.Decode, traits, tiles with { Decode = boxes }), boxes.Blocks, device, failures);
                    }

                    if (number % 4 == 1) Check(KernelLibrary.Of(AttentionKernel.Plain, traits, tiles), 1, device, failures);
                }
            }
        }

        if (failures.Count > 0) Assert.Fail($"{failures.Count} kernels:\n{string.Join("\n", failures)}");
    }

    [Fact]
    public void Kernels_that_write_the_cache_assemble_without_spilling()
    {
        Assert.SkipUnless(PtxAssembler.Program is not null, PtxAssembler.SkipReason);
        var failures = new List<string>();
        foreach (AttentionElementType stored in (AttentionElementType[])[AttentionElementType.Int8, AttentionElementType.Float8E4M3])
        {
            foreach (KernelFunction function in CachePlan.FunctionsOf(stored))
                foreach (CudaDeviceDescription device in (CudaDeviceDescription[])[Hopper, Ampere]) Check(function, 1, device, failures);
        }

        if (failures.Count > 0) Assert.Fail($"{failures.Count} kernels:\n{string.Join("\n", failures)}");
    }

    private void Check(KernelFunction function, int blocks, CudaDeviceDescription device, List<string> failures)
    {
        AssemblyReport report = PtxAssembler.Assemble(function, device.Name);
        string line = string.Create(CultureInfo.InvariantCulture, $"{device.Name} {report.Registers,4} registers, {function.Threads,4} threads, {blocks} blocks, {function.SharedBytes,7} bytes, {report.SpillBytes,4} spilled: {function.Label}");
        output.WriteLine(line);
        bool fits = (report.Registers + 7) / 8 * 8 * function.Threads * blocks <= RegistersOfMultiprocessor;
        if (report.ExitCode != 0 || report.HasWarnings || report.SpillBytes > 0 || !fits) failures.Add($"{line}\n{report.Log}");
    }
}
