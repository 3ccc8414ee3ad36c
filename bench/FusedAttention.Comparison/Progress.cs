using System.Diagnostics;
using FusedAttention.Comparison.Cases;
using FusedAttention.Comparison.Reporting;

namespace FusedAttention.Comparison;

/// <summary>What is being measured, on standard error: a line a row, and on a terminal a bar that moves while the row is measured.</summary>
internal sealed class Progress(TextWriter error, bool isTerminal)
{
    private const int BarWidth = 24;

    private readonly long _start = Stopwatch.GetTimestamp();
    private int _row;
    private int _rows;
    private string _name = "";
    private int _trials;

    public void Note(string text) => error.WriteLine(text);

    public void Begin(int row, int rows, string name)
    {
        (_row, _rows, _name, _trials) = (row, rows, name, 0);
        Show();
    }

    /// <summary>A trial is done.</summary>
    public void Tick()
    {
        _trials++;
        if (_trials % 10 == 0) Show();
    }

    public void End(ReportRow row)
    {
        bool isDecode = row.Case.Kind == CaseKind.Decode;
        string rate = string.Join("  ", row.Results.Select(r => r.Status switch
        {
            ResultStatus.Timed => $"{r.Contender} {(isDecode ? r.GigabytesPerSecond : r.GigaflopsPerSecond):0.0}",
            ResultStatus.Mismatch => $"{r.Contender} MISMATCH ({r.Note})",
            _ => $"{r.Contender} -",
        }));
        if (isTerminal) error.Write("\r\e[K");
        error.WriteLine($"[{_row + 1,2}/{_rows}] {row.Case.Name}, {(isDecode ? "GB/s" : "GFLOP/s")}: {rate}{Others(row)}");
        error.WriteLine($"        largest differences: {Errors(row)}");
    }

    private static string Errors(ReportRow row)
        => string.Join("  ", row.Results.Where(r => r.MaxAbsoluteError is not null).Select(r => $"{r.Contender} {r.MaxAbsoluteError:0.0e0}").Prepend($"ours from double precision {row.ErrorAgainstDouble:0.0e0}"));

    private static string Others(ReportRow row) => row.ForeignProcessors is double foreign and >= 0.05 ? $"  (others used {foreign:0.00} processors)" : "";

    private void Show()
    {
        if (!isTerminal) return;
        int filled = BarWidth * _row / _rows;
        TimeSpan elapsed = Stopwatch.GetElapsedTime(_start);
        error.Write($"\r\e[K[{new string('#', filled)}{new string('.', BarWidth - filled)}] {_row}/{_rows} {elapsed:mm\\:ss} {_name}, {_trials} trials");
    }
}
