using FusedAttention.Checking.Backends;
using FusedAttention.Checking.Measurement;
using FusedAttention.Checking.Problems;
using FusedAttention.Cli.Backends;

namespace FusedAttention.Cli.Commands;

/// <summary>The table of shapes that <c>bench</c> goes through on a GPU when the command line has no shape.</summary>
internal static class BenchTable
{
    /// <summary>Between two rows: a device that gets warm slows down, and the row before should not cost the next one.</summary>
    private static readonly TimeSpan Rest = TimeSpan.FromMilliseconds(500);

    /// <summary>Runs the rows and prints each as soon as it is known. One that the device has no memory for, or fails at, does not keep the others from running.</summary>
    /// <returns>Whether every row could be measured.</returns>
    public static bool Run(ToolConsole console, BackendDevice device, RunOptions run, IReadOnlyList<TimedShape> rows, TimeSpan time, bool json)
    {
        int width = rows.Max(static row => row.Name.Length);
        double? readRate = rows.Any(static row => row.IsBoundByMemory) ? device.Backend.MeasureReadRate() : null;
        if (!json)
        {
            console.Facts(device.Backend.Facts());
            console.Line($"Median of 3 trials or more after a warm-up, {device.Backend.Clock}.");
            if (readRate is double ceiling) console.Line($"The device reads memory at {ceiling:0} GB/s, measured now; shares are of that.");
            if (device.Provider.TargetNote is string note && rows.Any(static row => row.Target is not null)) console.Line(note);
            console.Line();
            console.Line($"{"shape".PadRight(width)}  {"ms",10}  {"rate",14}{(readRate is null ? "" : $"{"share",7}")}  target");
        }

        bool isComplete = true;
        for (int i = 0; i < rows.Count; i++)
        {
            run.CancellationToken.ThrowIfCancellationRequested();
            if (i > 0) run.CancellationToken.WaitHandle.WaitOne(TimeSpan.FromTicks(Math.Min(Rest.Ticks, time.Ticks)));
            TimedShape row = rows[i];
            try
            {
                device.Backend.Choose(row.Variant);
                BenchResult result = Measure(console, device.Backend, run, row, time) with { ReadRate = readRate };
                console.Line(json ? result.ToJson() : Line(row, result, width));
            }
            catch (Exception e) when (e is OutOfMemoryException || device.Provider.IsDeviceFailure(e))
            {
                isComplete = false;
                console.Error.WriteLine($"{row.Name}: {e.Message.ReplaceLineEndings(" ")}");
            }
            finally
            {
                device.Backend.Choose(null);
            }
        }

        return isComplete;
    }

    private static BenchResult Measure(ToolConsole console, Backend backend, RunOptions run, TimedShape row, TimeSpan time)
    {
        AttentionExplanation explanation = backend.Explain(row.Shape, run);
        using PreparedCall prepared = backend.Prepare(row.Shape.CreateCall(run));
        CallTimes times = console.WithClock(row.Name, expect => CallTimes.Measure(prepared, run, time, expect));
        return new(row.Shape, explanation, run.RowInvariant, backend.Clock, times, null);
    }

    private static string Line(TimedShape row, BenchResult result, int width)
    {
        double share = result.Milliseconds / result.MedianMilliseconds;
        string unit = row.IsBoundByMemory ? "GB/s" : "TFLOP/s";
        double rate = share * (row.IsBoundByMemory ? result.GigabytesPerSecond : result.GigaflopsPerSecond / 1000);
        string target = row.Target is double aim ? $"{aim:0.##} {unit}" : "";
        string ofReading = result.ReadRate is not double ceiling ? "" : row.IsBoundByMemory ? $"{rate / ceiling,7:0 %}" : new(' ', 7);
        return $"{row.Name.PadRight(width)}  {result.MedianMilliseconds,10:0.000}  {$"{rate:0.00} {unit}",14}{ofReading}  {target}".TrimEnd();
    }
}
