using FusedAttention.Cli.Backends;
using FusedAttention.Cli.Calls;
using FusedAttention.Cli.Formats;
using FusedAttention.Cli.Measurement;

namespace FusedAttention.Cli.Commands;

/// <summary>A shape of a backend's table.</summary>
/// <param name="Name">What the table calls it.</param>
/// <param name="Shape">The shape.</param>
/// <param name="Target">What the design aims at, in the unit of the row; null for nothing.</param>
internal sealed record BenchRow(string Name, CallShape Shape, double? Target = null)
{
    /// <summary>Decoding reads keys and values and does little with them; everything else is arithmetic.</summary>
    public bool IsBoundByMemory => Shape.QueryLength == 1;
}

/// <summary>The table of shapes that <c>bench</c> goes through on a GPU when the command line has no shape.</summary>
internal static class BenchTable
{
    /// <summary>Between two rows: a device that gets warm slows down, and the row before should not cost the next one.</summary>
    private static readonly TimeSpan Rest = TimeSpan.FromMilliseconds(500);

    /// <summary>
    /// What the Metal kernels were designed for on an M4 Pro with 20 GPU cores: 6 TFLOP/s of a causal prefill with D = 128 from 4k tokens on, three quarters of its 273 GB/s of memory
    /// in decoding with up to 4 query heads a key/value head. Nobody has measured either.
    /// </summary>
    public const string MetalTargets = "Targets are what the kernels were designed for on an M4 Pro with 20 GPU cores. They are not measurements.";

    private const double PrefillTarget = 6;
    private const double DecodeTarget = 205;

    /// <summary>The Metal table, quick rows first.</summary>
    public static IReadOnlyList<BenchRow> Metal { get; } = [.. MetalRows()];

    /// <summary>Runs the rows and prints each as soon as it is known. One that the device has no memory for, or fails at, does not keep the others from running.</summary>
    /// <returns>Whether every row could be measured.</returns>
    public static bool Run(ToolConsole console, Backend backend, AttentionOptions run, IReadOnlyList<BenchRow> rows, TimeSpan time, bool json)
    {
        int width = rows.Max(static row => row.Name.Length);
        if (!json)
        {
            console.Facts(backend.Facts());
            console.Line($"Median of 3 trials or more after a warm-up, {backend.Clock}.");
            if (rows.Any(static row => row.Target is not null)) console.Line(MetalTargets);
            console.Line();
            console.Line($"{"shape".PadRight(width)}  {"ms",10}  {"rate",14}  target");
        }

        bool isComplete = true;
        for (int i = 0; i < rows.Count; i++)
        {
            run.CancellationToken.ThrowIfCancellationRequested();
            if (i > 0) run.CancellationToken.WaitHandle.WaitOne(TimeSpan.FromTicks(Math.Min(Rest.Ticks, time.Ticks)));
            BenchRow row = rows[i];
            try
            {
                BenchResult result = Measure(console, backend, run, row, time);
                console.Line(json ? result.ToJson() : Line(row, result, width));
            }
            catch (Exception e) when (e is MetalException or OutOfMemoryException)
            {
                isComplete = false;
                console.Error.WriteLine($"{row.Name}: {e.Message.ReplaceLineEndings(" ")}");
            }
        }

        return isComplete;
    }

    private static BenchResult Measure(ToolConsole console, Backend backend, AttentionOptions run, BenchRow row, TimeSpan time)
    {
        AttentionExplanation explanation = row.Shape.Explain(backend, run);
        using PreparedCall prepared = backend.Prepare(row.Shape.CreateCall(run));
        CallTimes times = console.WithProgress(row.Name, 10 * (time + CallTimes.WarmUp).TotalSeconds, tick => CallTimes.Measure(prepared, time, tick));
        return new(row.Shape, explanation, run.RowInvariant, backend.Clock, times, null);
    }

    private static string Line(BenchRow row, BenchResult result, int width)
    {
        double share = result.Milliseconds / result.MedianMilliseconds;
        string unit = row.IsBoundByMemory ? "GB/s" : "TFLOP/s";
        double rate = share * (row.IsBoundByMemory ? result.GigabytesPerSecond : result.GigaflopsPerSecond / 1000);
        string target = row.Target is double aim ? $"{aim:0.##} {unit}" : "";
        return $"{row.Name.PadRight(width)}  {result.MedianMilliseconds,10:0.000}  {$"{rate:0.00} {unit}",14}  {target}".TrimEnd();
    }

    private static IEnumerable<BenchRow> MetalRows()
    {
        (TensorElementType, string)[] types = [(TensorElementType.Float16, "fp16"), (TensorElementType.BFloat16, "bf16"), (TensorElementType.Float32, "fp32")];
        foreach (int length in (int[])[1024, 4096, 8192])
        {
            foreach (int dim in (int[])[64, 128, 256])
            {
                foreach ((TensorElementType type, string name) in types)
                {
                    foreach (bool causal in (bool[])[true, false])
                    {
                        yield return new(
                            $"prefill {Thousands(length)} D{dim} {name} {(causal ? "causal" : "full")}", Shape(length, length, 32, 8, dim, type, causal),
                            causal && dim == 128 && length >= 4096 ? PrefillTarget : null);
                    }
                }
            }
        }

        foreach (int keys in (int[])[4096, 32768])
        {
            foreach (int keyValueHeads in (int[])[32, 8])
                yield return new($"decode {Thousands(keys)} D128 fp16 32/{keyValueHeads} heads", Shape(1, keys, 32, keyValueHeads, 128, TensorElementType.Float16, causal: false), DecodeTarget);
            yield return new($"decode {Thousands(keys)} D128 fp16 32/8 heads, paged 16", Shape(1, keys, 32, 8, 128, TensorElementType.Float16, causal: false) with { BlockSize = 16 });
        }

        yield return new("decode 4k D128 fp16 32/8 heads, batch 16, paged 16", Shape(1, 4096, 32, 8, 128, TensorElementType.Float16, causal: false) with { Batch = 16, BlockSize = 16 });
        yield return new("prefill 4k D128 fp16 causal, paged 16", Shape(4096, 4096, 32, 8, 128, TensorElementType.Float16, causal: true) with { BlockSize = 16 });
    }

    private static CallShape Shape(int queries, int keys, int heads, int keyValueHeads, int dim, TensorElementType type, bool causal) => new()
    {
        Batch = 1,
        QueryHeads = heads,
        KeyValueHeads = keyValueHeads,
        QueryLength = queries,
        KeyLength = keys,
        KeyDim = dim,
        ValueDim = dim,
        QueryType = type,
        KeyValueType = type,
        Mask = causal ? AttentionMask.Causal : AttentionMask.Full,
        BlockSize = null,
    };

    private static string Thousands(int tokens) => $"{tokens / 1024}k";
}
