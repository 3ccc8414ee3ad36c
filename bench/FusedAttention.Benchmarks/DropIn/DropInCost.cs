using System.Diagnostics;
using System.Numerics.Tensors;

namespace FusedAttention.Benchmarks.DropIn;

/// <summary>
/// An engine's attention before and after: its own loop, naive or in AVX2, and one call that reads the same cache in place. One thread each. Contenders take turns of short trials, of which the best one
/// counts, in time of the processor: what other programs take meanwhile is not in it. Outputs are compared first.
/// </summary>
internal static class DropInCost
{
    private const double LeastTrialSeconds = 0.005, LargestDifference = 1e-5;

    private static readonly AttentionOptions Causal = new() { Mask = AttentionMask.Causal };

    public static void Print(TextWriter output, TimeSpan timeOfRow)
    {
        if (!Avx2Attention.IsSupported) throw new PlatformNotSupportedException("The loop to compare with is AVX2.");
        output.WriteLine($"{EngineCall.QueryHeads} query heads over {EngineCall.KeyValueHeads}, D{EngineCall.Dim}, float, causal; a cache of [kvHead, capacity, dim]; one thread; {Environment.ProcessorCount} processors; .NET {Environment.Version}.\n");
        CpuInstructionSet? best = Attention.Explain<float, float>(Shape(new(1, 1)), Causal).InstructionSet;
        List<CpuInstructionSet> sets = [CpuInstructionSet.Avx2];
        if (best is CpuInstructionSet.Avx512) sets.Add(CpuInstructionSet.Avx512);

        output.WriteLine($"| | naive, ms | AVX2 loop, ms |{string.Concat(sets.Select(set => $" FusedAttention {set}, ms | over naive | over the AVX2 loop |"))} largest difference |");
        output.WriteLine($"|---|--:|--:|{string.Concat(sets.Select(_ => "--:|--:|--:|"))}--:|");
        foreach ((string name, EngineCall call) in new (string, EngineCall)[]
        {
            ("prefill, 256 tokens", new(256, 256)), ("prefill, 1,024 tokens", new(1024, 1024)), ("decode, 512 keys", new(1, 512)), ("decode, 4,096 keys", new(1, 4096)), ("decode, 16,384 keys", new(1, 16384)),
        })
        {
            float[] naive = new float[call.Query.Length], loop = new float[call.Query.Length], ours = new float[call.Query.Length];
            List<Action> contenders = [() => NaiveAttention.Forward(call, naive), () => Avx2Attention.Forward(call, loop)];
            foreach (CpuInstructionSet set in sets)
            {
                var execution = new CpuExecution { InstructionSet = set, MaxDegreeOfParallelism = 1 };
                AttentionShape shape = Shape(call);
                contenders.Add(() => Attention.Forward<float, float>(call.Query, call.Key, call.Value, ours, shape, Causal, execution: execution));
            }

            foreach (Action contender in contenders) contender();
            double difference = Math.Max(Difference(ours, naive), Difference(loop, naive));
            if (!(difference <= LargestDifference)) throw new InvalidOperationException($"{name}: outputs differ by {difference}.");
            double[] times = BestOf(contenders, timeOfRow);
            output.WriteLine($"| {name} | {times[0]:0.00} | {times[1]:0.00} |{string.Concat(times[2..].Select(time => $" {time:0.00} | {times[0] / time:0.0}x | {times[1] / time:0.0}x |"))} {difference:0.0e+0} |");
        }
    }

    private static AttentionShape Shape(EngineCall call)
    {
        AttentionStrides ofCache = AttentionStrides.HeadMajor(EngineCall.KeyValueHeads, call.Capacity, EngineCall.Dim);
        return new(batch: 1, call.NewTokens, call.CachedTokens, EngineCall.QueryHeads, EngineCall.KeyValueHeads, EngineCall.Dim) { KeyStrides = ofCache, ValueStrides = ofCache };
    }

    private static double Difference(float[] a, float[] b)
    {
        float[] differences = new float[a.Length];
        TensorPrimitives.Subtract(a, b, differences);
        return Math.Abs(TensorPrimitives.MaxMagnitude<float>(differences)); // NaN where there is one
    }

    /// <summary>Milliseconds a call of each, in turns; three turns at least. The first, which compiles, is none of them.</summary>
    private static double[] BestOf(List<Action> contenders, TimeSpan time)
    {
        int[] calls = [.. contenders.Select(contender => Math.Max(1, (int)(LeastTrialSeconds / Math.Max(1e-6, Seconds(contender, 1)))))];
        double[] best = new double[contenders.Count];
        Array.Fill(best, double.PositiveInfinity);
        long start = Stopwatch.GetTimestamp();
        for (int turn = 0; turn < 3 || Stopwatch.GetElapsedTime(start) < time; turn++)
            for (int i = 0; i < best.Length; i++) best[i] = Math.Min(best[i], Seconds(contenders[i], calls[i]) / calls[i]);
        return [.. best.Select(static seconds => seconds * 1e3)];
    }

    private static double Seconds(Action contender, int calls)
    {
        TimeSpan start = Environment.CpuUsage.TotalTime;
        for (int i = 0; i < calls; i++) contender();
        return (Environment.CpuUsage.TotalTime - start).TotalSeconds;
    }
}
