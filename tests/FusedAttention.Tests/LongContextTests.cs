using System.Diagnostics;
using System.Globalization;
using Xunit;

namespace FusedAttention.Tests;

/// <summary>A context whose score matrices would be 17 GB runs in the memory of its inputs and outputs.</summary>
[Slow]
[Collection(AloneDefinition.Name)]
public sealed class LongContextTests(ITestOutputHelper output)
{
    [Fact]
    public void Eight_heads_of_32768_tokens_need_less_than_64_megabytes_of_their_own()
    {
        Assert.SkipUnless(Environment.GetEnvironmentVariable("FUSEDATTENTION_LONG") is "1", "Takes minutes on few cores: set FUSEDATTENTION_LONG=1 to run it.");
        const int tokens = 32768;
        const int heads = 8;
        const int dim = 64;
        Half[] query = Numbers(1, tokens * heads * dim);
        Half[] key = Numbers(2, tokens * heads * dim);
        Half[] value = Numbers(3, tokens * heads * dim);
        var result = new Half[tokens * heads * dim];
        Array.Fill(result, Half.NaN);
        // A small call first: the pool's threads and the compiled kernels are not memory of the call.
        Attention.Forward<Half, Half>(query, key, value, result, new AttentionShape(1, 256, 256, heads, heads, dim));
        GC.Collect();
        ResetPeak();
        long before = Peak();
        var clock = Stopwatch.StartNew();
        Attention.Forward<Half, Half>(query, key, value, result, new AttentionShape(1, tokens, tokens, heads, heads, dim));
        double seconds = clock.Elapsed.TotalSeconds;
        long growth = Peak() - before;
        output.WriteLine($"{seconds:F1} s, {4.0 * heads * tokens * tokens * dim / seconds / 1e9:F0} GFLOP/s, peak memory grew by {growth / 1048576.0:F1} MB");
        Assert.True(growth < 64L << 20, $"Peak memory grew by {growth} bytes.");

        // Rows at both ends and between, against the oracle: each as a problem of one query.
        foreach ((int row, int head) in ((int, int)[])[(0, 0), (1, 7), (16383, 3), (20001, 5), (32767, 7)])
        {
            Problem problem = new()
            {
                Name = $"row {row}, head {head}",
                Form = CallForm.Dense,
                QueryType = AttentionElementType.Float16,
                KeyValueType = AttentionElementType.Float16,
                Heads = 1,
                KeyValueHeads = 1,
                KeyDim = dim,
                ValueDim = dim,
                QueryLengths = [1],
                KeyLengths = [tokens],
                KeyCapacity = tokens,
                Query = [Rows(query, head, row, row + 1)],
                Key = [Rows(key, head, 0, tokens)],
                Value = [Rows(value, head, 0, tokens)],
            };
            new CallResult([Rows(result, head, row, row + 1)], null).AssertClose(problem, CpuLimits.Of(problem));
        }

        static float[] Rows(Half[] tensor, int head, int from, int to)
        {
            var rows = new float[(to - from) * dim];
            for (int n = 0; n < rows.Length; n++) rows[n] = (float)tensor[((((from + (n / dim)) * heads) + head) * dim) + (n % dim)];
            return rows;
        }
    }

    /// <summary>Linux keeps the peak since the process began; writing 5 here makes it begin now.</summary>
    private static void ResetPeak()
    {
        if (OperatingSystem.IsLinux()) File.WriteAllText("/proc/self/clear_refs", "5");
    }

    private static long Peak()
    {
        if (!OperatingSystem.IsLinux())
        {
            using var process = Process.GetCurrentProcess();
            return process.PeakWorkingSet64;
        }

        string line = File.ReadLines("/proc/self/status").First(l => l.StartsWith("VmHWM:", StringComparison.Ordinal));
        return 1024 * long.Parse(line.AsSpan(6).Trim().ToString().Split(' ')[0], CultureInfo.InvariantCulture);
    }

    private static Half[] Numbers(int seed, int count)
    {
        var random = new Random(seed);
        var numbers = new Half[count];
        for (int i = 0; i < count; i++) numbers[i] = (Half)((random.NextDouble() * 4) - 2);
        return numbers;
    }
}
