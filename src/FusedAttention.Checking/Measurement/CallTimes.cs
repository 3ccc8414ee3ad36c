using System.Diagnostics;
using FusedAttention.Checking.Backends;
using FusedAttention.Checking.Problems;

namespace FusedAttention.Checking.Measurement;

/// <summary>How long a call takes.</summary>
/// <param name="Trials">How often it was measured.</param>
/// <param name="Best">Milliseconds of the shortest trial, a call.</param>
/// <param name="Median">Milliseconds of the middle one, a call.</param>
public sealed record CallTimes(int Trials, double Best, double Median)
{
    /// <summary>Enough calls for the JIT compiler's last tier and for the clocks of processor and GPU to settle.</summary>
    public static readonly TimeSpan WarmUp = TimeSpan.FromMilliseconds(400);

    /// <summary>Calls shorter than this are timed in groups, so that a trial is long beside the clock's own cost and an interrupt.</summary>
    private static readonly TimeSpan MinTrial = TimeSpan.FromMilliseconds(2);

    /// <param name="prepared">The call, which is made without a log-sum-exp.</param>
    /// <param name="run">How to run it.</param>
    /// <param name="time">How long to measure; three trials at least.</param>
    /// <param name="expect">Called when warmed up, with how long all of it will take, the warm-up included.</param>
    public static CallTimes Measure(PreparedCall prepared, RunOptions run, TimeSpan time, Action<TimeSpan> expect)
    {
        AttentionOptions options = prepared.Call.Options;
        run = run with { WithoutLogSumExp = true };
        long start = Stopwatch.GetTimestamp();
        int calls = 0;
        TimeSpan shortest = TimeSpan.MaxValue;
        while (calls == 0 || Stopwatch.GetElapsedTime(start) < WarmUp)
        {
            shortest = TimeSpan.FromTicks(Math.Min(shortest.Ticks, prepared.Time(options, run, 1).Ticks));
            calls++;
        }

        expect(Stopwatch.GetElapsedTime(start) + TimeSpan.FromTicks(Math.Max(time.Ticks, 3 * shortest.Ticks)));
        int group = Math.Max(1, (int)(MinTrial / TimeSpan.FromTicks(Math.Max(1, shortest.Ticks))));
        var trials = new List<double>();
        long measured = Stopwatch.GetTimestamp();
        while (trials.Count < 3 || Stopwatch.GetElapsedTime(measured) < time)
        {
            run.CancellationToken.ThrowIfCancellationRequested();
            trials.Add(prepared.Time(options, run, group).TotalMilliseconds / group);
        }

        trials.Sort();
        int middle = trials.Count / 2;
        return new(trials.Count, trials[0], trials.Count % 2 == 1 ? trials[middle] : (trials[middle - 1] + trials[middle]) / 2);
    }
}
