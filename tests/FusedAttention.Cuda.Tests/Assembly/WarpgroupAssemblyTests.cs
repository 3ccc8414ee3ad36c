using System.Collections.Concurrent;
using System.Globalization;
using FusedAttention.Cuda.Kernels;
using FusedAttention.Cuda.Launching;
using FusedAttention.Cuda.Planning;
using FusedAttention.Devices;
using Xunit;

namespace FusedAttention.Cuda.Tests.Assembly;

/// <summary>
/// Prefill by warpgroups through NVIDIA's assembler, for every pair of things that it is specialised for: nothing is refused or warned about (registers that cannot be had, products that would run one after
/// the other), nothing leaves the registers.
/// </summary>
[Slow]
public sealed class WarpgroupAssemblyTests(ITestOutputHelper output)
{
    private static readonly CudaDeviceDescription Hopper = new(0, "sm_90a", 9, 0, 132, 232448, 80L << 30, 13000);

    private static readonly (int Key, int Value)[] Dims = [(64, 64), (96, 96), (128, 128), (192, 128), (192, 192), (256, 256), (80, 40)];

    private static readonly int[] BlockSizes = [0, 16, 24];

    private static readonly CallFeatures[] Flags = [CallFeatures.Alibi, CallFeatures.SoftCap, CallFeatures.Sinks, CallFeatures.LogSumExp];

    /// <summary>Choices of each factor: element type, dimensions, block size, whether every key is in sight, and the features.</summary>
    private static readonly int[] Choices = [2, Dims.Length, BlockSizes.Length, 2, 2, 2, 2, 2];

    [Fact]
    public void Kernels_assemble_without_spilling_and_products_stay_in_the_background()
    {
        Assert.SkipUnless(PtxAssembler.Program is not null, PtxAssembler.SkipReason);
        var failures = new ConcurrentQueue<string>();
        var lines = new ConcurrentQueue<string>();
        Parallel.ForEach(Cover(), new ParallelOptions { MaxDegreeOfParallelism = 2 }, choice =>
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

    /// <summary>Kernels that have any two choices of two factors together: as many as there are pairs of dimensions and block sizes.</summary>
    private static List<int[]> Cover()
    {
        var random = new Random(1);
        var missing = new HashSet<(int, int, int, int)>();
        for (int a = 0; a < Choices.Length; a++)
        for (int b = a + 1; b < Choices.Length; b++)
        for (int x = 0; x < Choices[a]; x++)
        for (int y = 0; y < Choices[b]; y++) missing.Add((a, x, b, y));
        var cover = new List<int[]>();
        while (missing.Count > 0)
        {
            (int a, int x, int b, int y) = missing.Min();
            int[] best = Enumerable.Range(0, 2000).Select(_ =>
            {
                int[] choice = [.. Choices.Select(count => random.Next(count))];
                (choice[a], choice[b]) = (x, y);
                return choice;
            }).MaxBy(choice => Pairs(choice).Count(missing.Contains))!;
            missing.ExceptWith(Pairs(best));
            cover.Add(best);
        }

        return cover;
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
        bool isPaged = choice[2] > 0, isFull = choice[3] == 1;
        WarpgroupUse use = (features & (CallFeatures.Alibi | CallFeatures.SoftCap)) != CallFeatures.None ? WarpgroupUse.Modified
            : !isFull ? WarpgroupUse.Masked : isPaged ? WarpgroupUse.Full : WarpgroupUse.Plain;
        var tiles = new KernelTiles(null, TileTable.Warpgroups(key, value, Hopper, use), WarpgroupRefusal.None, null, default, 1, 1);
        return KernelLibrary.Of(AttentionKernel.Prefill, new(type, type, key, value, features, BlockSizes[choice[2]], default), tiles);
    }
}
