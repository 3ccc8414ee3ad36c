using System.Collections.Concurrent;
using System.Globalization;
using FusedAttention.Cuda.Kernels;
using FusedAttention.Cuda.Launching;
using FusedAttention.Cuda.Planning;
using FusedAttention.Devices;
using FusedAttention.Tensors;
using Xunit;

namespace FusedAttention.Cuda.Tests.Assembly;

/// <summary>
/// Prefill by warpgroups through NVIDIA's assembler: nothing is refused or warned about (registers that cannot be had, products that would run one after the other), nothing leaves the registers. With every
/// choice of what it is specialised for; FUSEDATTENTION_PTXAS_ALL=1 has every pair of choices.
/// </summary>
[Slow]
public sealed class WarpgroupAssemblyTests(ITestOutputHelper output)
{
    private static readonly CudaDeviceDescription Hopper = new(0, "sm_90a", 9, 0, 132, 232448, 80L << 30, 13000);

    private static readonly (int Key, int Value)[] Dims = [(64, 64), (96, 96), (128, 128), (192, 128), (192, 192), (256, 256), (80, 40)];

    private static readonly int[] BlockSizes = [0, 16, 3];

    private static readonly CallFeatures[] Flags = [CallFeatures.Alibi, CallFeatures.SoftCap, CallFeatures.Sinks, CallFeatures.LogSumExp, CallFeatures.Mask];

    /// <summary>Choices of each factor: element type, dimensions, block size, whether every key is in sight, the features, and none or a bias of each type, of rows or of keys alone.</summary>
    private static readonly int[] Choices = [2, Dims.Length, BlockSizes.Length, 2, 2, 2, 2, 2, 2, 7];

    [Fact]
    public void Kernels_assemble_without_spilling_and_products_stay_in_the_background()
    {
        Assert.SkipUnless(PtxAssembler.Program is not null, PtxAssembler.SkipReason);
        var failures = new ConcurrentQueue<string>();
        var lines = new ConcurrentQueue<string>();
        bool isWhole = Environment.GetEnvironmentVariable("FUSEDATTENTION_PTXAS_ALL") is "1";
        Parallel.ForEach(Cover(isWhole), new ParallelOptions { MaxDegreeOfParallelism = 2 }, choice =>
        {
            KernelFunction function = FunctionOf(choice);
            AssemblyReport report = PtxAssembler.Assemble(function, Hopper.Name);
            string line = string.Create(
                CultureInfo.InvariantCulture, $"{report.Registers,4} registers, {function.Threads,4} threads, {function.SharedBytes,7} bytes, {report.SpillBytes,4} spilled, {function.Text.Length / 1024,5} KB of text: {function.Label}");
            lines.Enqueue(line);
            if (report.ExitCode != 0 || report.HasWarnings || report.Log.Contains("serialized", StringComparison.OrdinalIgnoreCase) || report.SpillBytes > 0) failures.Enqueue($"{line}\n{report.Log}");
        });
        foreach (string line in lines.Order(StringComparer.Ordinal)) output.WriteLine(line);
        if (!failures.IsEmpty) Assert.Fail($"{failures.Count} of {lines.Count} kernels:\n{string.Join("\n", failures)}");
    }

    /// <summary>Kernels that have each choice of each factor, as many as there are dimensions; or any two choices of two factors together, as many as there are pairs of dimensions and block sizes.</summary>
    private static List<int[]> Cover(bool pairs)
    {
        var random = new Random(1);
        Func<int[], IEnumerable<(int, int, int, int)>> of = pairs ? Pairs : static choice => choice.Select(static (value, factor) => (factor, value, factor, value));
        var missing = new HashSet<(int, int, int, int)>();
        int[][] some = [.. Enumerable.Range(0, 20_000).Select(_ => Random())];
        foreach (int[] choice in some) missing.UnionWith(of(choice));
        var cover = new List<int[]>();
        while (missing.Count > 0)
        {
            int[] best = some.Take(2000).MaxBy(choice => of(choice).Count(missing.Contains))!;
            if (!of(best).Any(missing.Contains)) best = some.First(choice => of(choice).Any(missing.Contains));
            missing.ExceptWith(of(best));
            cover.Add(best);
        }

        return cover;

        int[] Random() => [.. Choices.Select(count => random.Next(count))];
    }

    private static IEnumerable<(int, int, int, int)> Pairs(int[] choice)
    {
        for (int a = 0; a < choice.Length; a++)
            for (int b = a + 1; b < choice.Length; b++) yield return (a, choice[a], b, choice[b]);
    }

    private static KernelFunction FunctionOf(int[] choice)
    {
        AttentionElementType type = choice[0] == 0 ? AttentionElementType.Float16 : AttentionElementType.BFloat16;
        (int key, int value) = Dims[choice[1]];
        CallFeatures features = CallFeatures.Aligned;
        for (int i = 0; i < Flags.Length; i++)
            if (choice[4 + i] == 1) features |= Flags[i];
        AttentionElementType bias = (choice[^1] % 3) switch { 2 => AttentionElementType.Float16, 0 => AttentionElementType.BFloat16, _ => AttentionElementType.Float32 };
        if (choice[^1] > 0) features |= CallFeatures.Bias;
        bool isFull = choice[3] == 1;
        WarpgroupUse use = (features & (CallFeatures.Alibi | CallFeatures.SoftCap)) != CallFeatures.None ? WarpgroupUse.Modified
            : isFull ? WarpgroupUse.Full : WarpgroupUse.Masked;
        var tiles = new KernelTiles(null, TileTable.Warpgroups(key, value, Hopper, use, new WarpgroupLookups((features & CallFeatures.Mask) != CallFeatures.None, choice[^1] == 0 ? 0 : bias.Size(), HasBiasOfKeys: choice[^1] > 3)), WarpgroupRefusal.None, null, default, 1, null, 1);
        return KernelLibrary.Of(AttentionKernel.Prefill, new(type, type, key, value, features, BlockSizes[choice[2]], choice[^1] > 0 ? bias : default), tiles);
    }
}
