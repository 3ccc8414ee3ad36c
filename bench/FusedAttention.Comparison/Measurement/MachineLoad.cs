using System.Diagnostics;
using System.Globalization;

namespace FusedAttention.Comparison.Measurement;

/// <summary>How much of the machine others used meanwhile: what a timing must be judged by. Linux; elsewhere nothing is known.</summary>
internal sealed class MachineLoad
{
    private readonly long _start = Stopwatch.GetTimestamp();
    private readonly double? _busy = BusySeconds();
    private readonly double _own = OwnSeconds();

    /// <summary>The system's load averages over 1, 5 and 15 minutes.</summary>
    public static string? LoadAverage
        => File.Exists("/proc/loadavg") ? string.Join(' ', File.ReadAllText("/proc/loadavg").Split(' ')[..3]) : null;

    /// <summary>Processors that other processes kept busy since this object was made, on average; time that the host took from a virtual machine included.</summary>
    public double? ForeignProcessors()
    {
        double seconds = Stopwatch.GetElapsedTime(_start).TotalSeconds;
        return BusySeconds() is double busy && _busy is double before && seconds > 0
            ? Math.Max(0, (busy - before - (OwnSeconds() - _own)) / seconds)
            : null;
    }

    /// <summary>Processor time used on the whole machine: user, nice, system, interrupts and stolen, in hundredths of a second.</summary>
    private static double? BusySeconds()
    {
        const string Statistics = "/proc/stat";
        if (!File.Exists(Statistics)) return null;
        string[] fields = File.ReadLines(Statistics).First().Split(' ', StringSplitOptions.RemoveEmptyEntries);
        double ticks = 0;
        foreach (int field in (int[])[1, 2, 3, 6, 7, 8]) ticks += double.Parse(fields[field], CultureInfo.InvariantCulture);
        return ticks / 100;
    }

    private static double OwnSeconds()
    {
        using var self = Process.GetCurrentProcess();
        return self.TotalProcessorTime.TotalSeconds;
    }
}
