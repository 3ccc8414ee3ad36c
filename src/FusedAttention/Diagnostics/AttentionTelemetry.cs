using System.Diagnostics;
using System.Diagnostics.Metrics;
using System.Runtime.CompilerServices;

namespace FusedAttention.Diagnostics;

/// <summary>
/// The meter <c>FusedAttention</c>, and the one place where calls report to it and to <see cref="AttentionEventSource"/>. When nobody listens, a call pays
/// for four flags; when somebody does, it allocates nothing itself.
/// </summary>
/// <remarks>
/// A backend brackets each call: <c>CallTimer timer = AttentionTelemetry.Start(in call)</c> when the plan is known, and <c>Stop(in timer, in call)</c> when the
/// outputs are written, or <c>Stop(in timer, in call, exception)</c> when the call failed after that.
/// </remarks>
internal static class AttentionTelemetry
{
    public const string MeterName = "FusedAttention";

    private static readonly Meter Meter = CreateMeter();

    private static readonly Counter<long> Calls =
        Meter.CreateCounter<long>("fusedattention.calls", "{call}", "Attention calls that ended.");

    private static readonly Histogram<double> Duration = Meter.CreateHistogram(
        "fusedattention.duration",
        "s",
        "Time from plan to result of an attention call.",
        tags: null,
        new InstrumentAdvice<double>
        {
            // A decode step of one short sequence takes 10 us, a prefill of 100k tokens a minute; the usual buckets begin at 5 ms.
            HistogramBucketBoundaries = [1e-5, 2.5e-5, 5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 1e-2, 2.5e-2, 5e-2, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60],
        });

    private static readonly Counter<long> FloatingPointOperations =
        Meter.CreateCounter<long>("fusedattention.flops", "{operation}", "Floating-point operations of completed calls on allowed keys: two a multiply-add, key and value products only.");

    /// <summary>Whether somebody wants the operations counted: counting allowed keys is worth avoiding.</summary>
    public static bool CountsFloatingPointOperations => FloatingPointOperations.Enabled || AttentionEventSource.Log.IsEnabled();

    /// <summary>Whether somebody listens to calls.</summary>
    public static bool IsEnabled => Calls.Enabled || Duration.Enabled || FloatingPointOperations.Enabled || AttentionEventSource.Log.IsEnabled();

    /// <summary>Makes the meter known to listeners without a call: for a process that fills caches first.</summary>
    public static void Publish() => RuntimeHelpers.RunClassConstructor(typeof(AttentionTelemetry).TypeHandle);

    /// <param name="call">May be default if <see cref="IsEnabled"/> was false when the caller looked: a listener that came since then sees the next call.</param>
    public static CallTimer Start(in CallDescription call) => IsEnabled && call.Backend is not null ? StartObserved(in call) : default;

    /// <param name="timer">What <see cref="Start"/> gave.</param>
    /// <param name="call">As given to <see cref="Start"/>.</param>
    /// <param name="error">Why the call did not end well; null if it did.</param>
    public static void Stop(in CallTimer timer, in CallDescription call, Exception? error = null)
    {
        if (timer.StartTimestamp != 0) StopObserved(in timer, in call, error);
    }

    private static Meter CreateMeter()
    {
        var meter = new Meter(MeterName, typeof(AttentionTelemetry).Assembly.GetName().Version?.ToString(3));
        meter.CreateObservableUpDownCounter("fusedattention.cache.blocks.used", static () => CacheCensus.UsedBlocks, "{block}", "Blocks of paged caches in use.");
        meter.CreateObservableUpDownCounter("fusedattention.cache.blocks.total", static () => CacheCensus.TotalBlocks, "{block}", "Blocks of paged caches.");
        return meter;
    }

    private static CallTimer StartObserved(in CallDescription call)
    {
        AttentionEventSource log = AttentionEventSource.Log;
        if (log.WantsCalls()) log.CallStart(call.Backend, call.Kernel, call.Queries, call.Keys, call.Heads, call.Dim);
        return new CallTimer(Math.Max(1, Stopwatch.GetTimestamp()));
    }

    private static void StopObserved(in CallTimer timer, in CallDescription call, Exception? error)
    {
        TimeSpan elapsed = Stopwatch.GetElapsedTime(timer.StartTimestamp);
        string? errorType = error?.GetType().FullName;
        var tags = new TagList { { "backend", call.Backend }, { "kernel", call.Kernel } };
        if (errorType is not null) tags.Add("error.type", errorType);

        Calls.Add(1, tags);
        Duration.Record(elapsed.TotalSeconds, tags);
        if (errorType is null) FloatingPointOperations.Add((long)call.FloatingPointOperations, tags);

        AttentionEventSource log = AttentionEventSource.Log;
        if (!log.WantsCalls()) return;
        log.CallStop(
            call.Backend, call.Kernel, call.Queries, call.Keys, call.Heads, call.Dim, elapsed.TotalMicroseconds, call.FloatingPointOperations, errorType ?? "");
    }
}
