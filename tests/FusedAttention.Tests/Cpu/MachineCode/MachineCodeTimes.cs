using System.Collections.Concurrent;
using System.Diagnostics;
using System.Globalization;
using System.Runtime.InteropServices;
using FusedAttention.Cpu.MachineCode;
using FusedAttention.Cpu.MachineCode.Kernels;
using FusedAttention.Cpu.Planning;
using FusedAttention.Cpu.Prefill;
using Xunit;

namespace FusedAttention.Tests.Cpu.MachineCode;

/// <summary>
/// How long calls take with machine code and without, alternately in one process, on a machine that has no .NET to build a benchmark with: runs where <c>FUSEDATTENTION_TIMES</c> says how many seconds a shape gets, and
/// fails where the two disagree. <c>eng/x86-tests.sh</c> takes it there.
/// </summary>
public sealed class MachineCodeTimes(ITestOutputHelper output)
{
    private const int Heads = 8;

    private static double? Seconds => double.TryParse(Environment.GetEnvironmentVariable("FUSEDATTENTION_TIMES"), CultureInfo.InvariantCulture, out double seconds) ? seconds : null;

    [Theory]
    [InlineData(512, 128, false)]
    [InlineData(512, 128, true)]
    [InlineData(512, 64, false)]
    [InlineData(512, 64, true)]
    [InlineData(2048, 128, false)]
    [InlineData(2048, 128, true)]
    [InlineData(2048, 64, false)]
    [InlineData(2048, 64, true)]
    [InlineData(8192, 128, false)]
    [InlineData(8192, 128, true)]
    [InlineData(8192, 64, false)]
    [InlineData(8192, 64, true)]
    public void Prefill_of_bfloat16_by_tiles(int tokens, int dim, bool causal)
    {
        Assert.SkipUnless(Seconds is not null, "FUSEDATTENTION_TIMES does not say for how long.");
        Assert.SkipUnless(Variants.IsSupported(CpuInstructionSet.Avx512) && TileCaller.HasTiles, "This processor has no tiles, or this process may not use them.");
        BFloat16[] query = Draw(1), key = Draw(2), value = Draw(3), without = new BFloat16[query.Length], with = new BFloat16[query.Length];
        AttentionOptions options = new() { Mask = causal ? AttentionMask.Causal : AttentionMask.Full };
        foreach (int threads in (int[])[-1, 1])
        {
            if (threads == 1 && tokens > 2048) continue;
            var execution = new CpuExecution { MaxDegreeOfParallelism = threads };
            var shape = new AttentionShape(1, tokens, tokens, Heads, Heads, dim);
            (double off, double on) = Medians(
                () => Attention.Forward<BFloat16, BFloat16>(query, key, value, without, shape, options, execution: execution with { MachineCode = CpuMachineCode.Off }),
                () => Attention.Forward<BFloat16, BFloat16>(query, key, value, with, shape, options, execution: execution));
            double operations = 4.0 * tokens * tokens * Heads * dim / (causal ? 2 : 1);
            output.WriteLine(string.Create(CultureInfo.InvariantCulture,
                $"times prefill bf16 {tokens} x {Heads} x {dim} {(causal ? "causal" : "full")} threads {threads}: intrinsics {off * 1e3:0.000} ms {operations / off / 1e12:0.000} TFLOP/s, tiles {on * 1e3:0.000} ms {operations / on / 1e12:0.000} TFLOP/s, {off / on:0.00} x"));
        }

        for (int i = 0; i < with.Length; i++) Assert.Equal((float)without[i], (float)with[i], 0.05f + (0.02f * Math.Abs((float)without[i])));

        BFloat16[] Draw(int seed)
        {
            var random = new Random(seed);
            var numbers = new BFloat16[tokens * Heads * dim];
            for (int i = 0; i < numbers.Length; i++) numbers[i] = (BFloat16)((random.NextSingle() * 2) - 1);
            return numbers;
        }
    }

    /// <summary>What the parts of a prefill take by themselves, in memory as a strip and a tile have it, on one thread and on all at once.</summary>
    [Theory]
    [InlineData(128)]
    [InlineData(64)]
    public unsafe void Parts_of_prefill_by_tiles(int dim)
    {
        Assert.SkipUnless(Seconds is not null, "FUSEDATTENTION_TIMES does not say for how long.");
        Assert.SkipUnless(Variants.IsSupported(CpuInstructionSet.Avx512) && TileCaller.HasTiles, "This processor has no tiles, or this process may not use them.");
        TileKernels kernels = TileKernelCache.Of(CodeHost.Current, PrefillTiles.Keys).For(dim, dim)!;
        foreach (int threads in (int[])[1, Environment.ProcessorCount])
        {
            var lines = new ConcurrentBag<double[]>();
            var barrier = new Barrier(threads);
            BackgroundThread[] all = [.. Enumerable.Range(0, threads).Select(_ => BackgroundThread.Start(() => lines.Add(Parts(kernels, dim, barrier))))];
            foreach (BackgroundThread thread in all) thread.Join();
            string[] names = ["scores of a stage", "softmax", "softmax with exact sums", "sums of a stage", "sums of a tile", "a woven stage", "packing keys of a tile", "packing values"];
            for (int i = 0; i < names.Length; i++)
            {
                double median = lines.Select(line => line[i]).Order().ElementAt(threads / 2);
                double products = i is 0 or 3 or 4 or 5 ? 2.0 * TileKernels.Rows * dim * (i is 4 or 5 ? 256 : 128) * threads / median / 1e12 : 0;
                output.WriteLine(string.Create(CultureInfo.InvariantCulture, $"parts dim {dim} threads {threads}: {names[i]} {median * 1e9:0} ns{(products > 0 ? $", {products:0.00} TFLOP/s" : "")}"));
            }
        }
    }

    private static unsafe double[] Parts(TileKernels kernels, int dim, Barrier barrier)
    {
        const int Keys = PrefillTiles.Keys, Rows = TileKernels.Rows;
        byte* memory = (byte*)NativeMemory.AlignedAlloc(4 << 20, 4096);
        new Span<byte>(memory, 4 << 20).Clear();
        byte* query = memory, key = memory + (64 << 10), value = key + (256 << 10), source = value + (256 << 10);
        float* scores = (float*)(source + (512 << 10)), output = scores + (Keys * Rows), max = output + (256 * dim), sum = max + Rows, exact = sum + Rows;
        uint* weights = (uint*)(exact + Rows);
        nint* rows = (nint*)(weights + (Keys * Rows));
        TileStagesBlock* call = (TileStagesBlock*)(rows + (2 * Keys));
        TileStage* list = (TileStage*)(call + 1);
        const int MostStages = 16;
        for (int i = Keys; i < 2 * Keys; i++) rows[i] = (nint)(source + ((i - Keys) * dim * 8) + (dim * 4));
        for (int i = 0; i < Keys; i++) rows[i] = (nint)(source + (i * dim * 8));
        for (int i = 0; i < Rows; i++) max[i] = float.NegativeInfinity;
        try
        {
            Action[] parts =
            [
                () =>
                {
                    var block = new TileScoresBlock { Configuration = TileConfiguration.Whole, Query = query, Keys = key, Scores = scores, KeyBlocks = 4 };
                    kernels.Scores(&block);
                },
                () => TileSoftmax.Update(scores, 128, weights, max, sum, null, output, dim, 0.1f),
                () => TileSoftmax.Update(scores, 128, weights, max, sum, exact, output, dim, 0.1f),
                () => Sums(4),
                () => Sums(8),
                Stages,
                () => TilePacking.PackKeys(rows, 0, 0, Keys, dim, key),
                () => TilePacking.PackValues(rows, 0, 0, Keys, dim, value),
            ];
            return [.. parts.Select((part, index) =>
            {
                part();
                barrier.SignalAndWait();
                var times = new List<double>();
                long start = Stopwatch.GetTimestamp();
                while (Stopwatch.GetElapsedTime(start).TotalSeconds < 0.1)
                {
                    long begin = Stopwatch.GetTimestamp();
                    for (int i = 0; i < 50; i++) part();
                    times.Add(Stopwatch.GetElapsedTime(begin).TotalSeconds / 50);
                }

                times.Sort();
                return times[times.Count / 2] / (index == 5 ? MostStages : 1);
            })];
        }
        finally
        {
            NativeMemory.AlignedFree(memory);
        }

        // Eight strips of one tile.
        void Stages()
        {
            for (int i = 0; i <= MostStages; i++)
            {
                TileStage* stage = list + i;
                new Span<float>(stage->Offsets, Rows).Clear();
                stage->Query = query + (i / 2 % 8 * Rows * dim * 2);
                stage->Keys = key + (i % 2 * TileStages.Keys * dim * 2);
                stage->Values = value + (i % 2 * 4 * TileScores.TileBytes);
                stage->Output = (byte*)(output + (i / 2 % 8 * Rows * dim));
                stage->Weights = (byte*)weights + (i % 2 * TileStages.WeightBytes);
                stage->Ahead = rows + (16 * (i % MostStages));
            }

            call->Set(0.1f, TileSoftmax.LargestExponent);
            call->Stages = list;
            call->End = list + MostStages;
            kernels.Stages(call);
            Assert.True(call->Reached == call->End, "A score is too large.");
        }

        void Sums(int blocks)
        {
            var block = new TileSumsBlock { Configuration = TileConfiguration.Whole, Weights = (byte*)weights, Values = value, Output = output, KeyBlocks = blocks };
            kernels.Sums(&block);
        }
    }

    [Theory]
    [InlineData(CpuInstructionSet.Avx2, 32, 8)]
    [InlineData(CpuInstructionSet.Avx512, 32, 8)]
    [InlineData(CpuInstructionSet.Avx2, 32, 32)]
    [InlineData(CpuInstructionSet.Avx512, 32, 32)]
    public void Decode_of_binary16(CpuInstructionSet set, int heads, int keyValueHeads)
    {
        Assert.SkipUnless(Seconds is not null, "FUSEDATTENTION_TIMES does not say for how long.");
        Assert.SkipUnless(Variants.IsSupported(set) && CodeHost.Current is { IsAvailable: true, Features.HasF16C: true }, $"No machine code for {set} here: {CodeHost.Current.State}.");
        const int Keys = 32_768, Dim = 128;
        Half[] query = Draw(heads * Dim, 1), key = Draw(Keys * keyValueHeads * Dim, 2), value = Draw(Keys * keyValueHeads * Dim, 3), without = new Half[heads * Dim], with = new Half[heads * Dim];
        foreach (int threads in (int[])[1, -1])
        {
            var execution = new CpuExecution { InstructionSet = set, MaxDegreeOfParallelism = threads, MachineCode = CpuMachineCode.Off };
            var shape = new AttentionShape(1, 1, Keys, heads, keyValueHeads, Dim);
            (double off, double on) = Medians(
                () => Attention.Forward<Half, Half>(query, key, value, without, shape, execution: execution),
                () => Attention.Forward<Half, Half>(query, key, value, with, shape, execution: execution with { MachineCode = CpuMachineCode.Required }));
            double bytes = 4.0 * Keys * keyValueHeads * Dim;
            output.WriteLine(string.Create(CultureInfo.InvariantCulture,
                $"times decode fp16 {heads}/{keyValueHeads} x {Dim}, {Keys} keys, {set}, threads {threads}: without {off * 1e3:0.000} ms {bytes / off / 1e9:0.0} GB/s, with {on * 1e3:0.000} ms {bytes / on / 1e9:0.0} GB/s, {off / on:0.00} x"));
        }

        Assert.Equal(without, with);

        static Half[] Draw(int count, int seed)
        {
            var random = new Random(seed);
            var numbers = new Half[count];
            for (int i = 0; i < count; i++) numbers[i] = (Half)((random.NextSingle() * 2) - 1);
            return numbers;
        }
    }

    private static (double Off, double On) Medians(Action off, Action on)
    {
        off();
        on();
        var offs = new List<double>();
        var ons = new List<double>();
        long start = Stopwatch.GetTimestamp();
        do
        {
            offs.Add(Time(off));
            ons.Add(Time(on));
        }
        while (Stopwatch.GetElapsedTime(start).TotalSeconds < Seconds || offs.Count < 3);
        offs.Sort();
        ons.Sort();
        return (offs[offs.Count / 2], ons[ons.Count / 2]);

        static double Time(Action call)
        {
            long begin = Stopwatch.GetTimestamp();
            call();
            return Stopwatch.GetElapsedTime(begin).TotalSeconds;
        }
    }
}
