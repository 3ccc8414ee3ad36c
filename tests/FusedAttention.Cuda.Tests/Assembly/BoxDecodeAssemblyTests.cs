using System.Collections.Concurrent;
using System.Globalization;
using FusedAttention.Cuda.Kernels;
using FusedAttention.Cuda.Launching;
using FusedAttention.Cuda.Planning;
using FusedAttention.Devices;
using Xunit;

namespace FusedAttention.Cuda.Tests.Assembly;

/// <summary>Decode by boxes through NVIDIA's assembler: nothing is refused or warned about, and as many blocks as are meant to have their registers. All dimensions, with no feature, each alone and all; FUSEDATTENTION_PTXAS_ALL=1 has every block size and type with each.</summary>
[Slow]
public sealed class BoxDecodeAssemblyTests(ITestOutputHelper output)
{
    private const int RegistersOfMultiprocessor = 65536;

    private static readonly CudaDeviceDescription Hopper = new(0, "sm_90a", 9, 0, 132, 232448, 80L << 30, 13000);

    private static readonly (int Key, int Value)[] Dims = [(64, 64), (128, 128), (16, 16), (40, 40), (72, 72), (80, 80), (96, 96), (192, 128), (64, 128), (128, 64), (192, 192), (256, 256)];

    private static readonly int[] BlockSizes = [0, 16, 24, 64];

    private static readonly CallFeatures[] Features =
    [
        CallFeatures.None, CallFeatures.LogSumExp, CallFeatures.Mask, CallFeatures.Bias, CallFeatures.Alibi | CallFeatures.Sinks, CallFeatures.SoftCap,
        CallFeatures.Mask | CallFeatures.Bias | CallFeatures.Alibi | CallFeatures.SoftCap | CallFeatures.Sinks | CallFeatures.LogSumExp,
    ];

    [Fact]
    public void Kernels_assemble_without_spilling()
    {
        Assert.SkipUnless(PtxAssembler.Program is not null, PtxAssembler.SkipReason);
        bool isWhole = Environment.GetEnvironmentVariable("FUSEDATTENTION_PTXAS_ALL") is "1";
        var failures = new ConcurrentQueue<string>();
        var lines = new ConcurrentQueue<string>();
        Parallel.For(0, Dims.Length * Features.Length * BlockSizes.Length * 2, new ParallelOptions { MaxDegreeOfParallelism = 2 }, number =>
        {
            (int Dims, int Features, int Block, int Type) choice = (number % Dims.Length, number / Dims.Length % Features.Length, number / Dims.Length / Features.Length / 2, number / Dims.Length / Features.Length % 2);
            bool isCommon = choice.Features is 0 or 6 && choice.Type == (choice.Dims + choice.Block + choice.Features) % 2 && (choice.Dims < 2 || choice.Block == (choice.Dims + choice.Features) % BlockSizes.Length);
            if (!isWhole && !isCommon) return;
            (int key, int value) = Dims[choice.Dims];
            AttentionElementType type = choice.Type == 0 ? AttentionElementType.Float16 : AttentionElementType.BFloat16;
            CallFeatures features = CallFeatures.Aligned | Features[choice.Features];
            DecodeTile tile = TileTable.DecodeBoxes(key, value, Hopper)!.Value;
            AttentionElementType bias = features.HasFlag(CallFeatures.Bias) ? AttentionElementType.Float32 : default;
            KernelFunction function = KernelLibrary.Of(AttentionKernel.Decode, new(type, type, key, value, features, BlockSizes[choice.Block], bias), new(null, null, default, tile, default, 1, null, 1));
            AssemblyReport report = PtxAssembler.Assemble(function, Hopper.Name);
            string line = string.Create(
                CultureInfo.InvariantCulture, $"{report.Registers,4} registers, {function.Threads,4} threads, {tile.Blocks} blocks of {tile.Stages} stages, {function.SharedBytes,7} bytes, {report.SpillBytes,4} spilled, {function.Text.Length / 1024,5} KB of text: {function.Label}");
            lines.Enqueue(line);

            // As in the other form, rows whose scores are looked up; here from 128 dimensions on.
            bool looksUp = (features & (CallFeatures.Mask | CallFeatures.Bias)) != CallFeatures.None;
            int allowed = looksUp && key >= 128 ? key > 128 ? 256 : 64 : 0;
            bool fits = (report.Registers + 7) / 8 * 8 * function.Threads * tile.Blocks <= RegistersOfMultiprocessor;
            if (report.ExitCode != 0 || report.HasWarnings || report.SpillBytes > allowed || !fits) failures.Enqueue($"{line}\n{report.Log}");
        });
        foreach (string line in lines.Order(StringComparer.Ordinal)) output.WriteLine(line);
        if (!failures.IsEmpty) Assert.Fail($"{failures.Count} of {lines.Count} kernels:\n{string.Join("\n", failures)}");
    }
}
