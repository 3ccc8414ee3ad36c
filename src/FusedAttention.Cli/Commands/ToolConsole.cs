using System.Diagnostics;
using Spectre.Console;

namespace FusedAttention.Cli.Commands;

/// <summary>
/// Where the tool writes. Results go to standard output, messages and progress to standard error. On a terminal, tables are drawn and long work shows a bar;
/// in a pipe, everything is plain text whose form depends on the results alone.
/// </summary>
internal sealed class ToolConsole
{
    /// <summary>Columns of help in a pipe.</summary>
    public const int WidthOfPipes = 120;

    /// <summary>The least and most of a terminal.</summary>
    private const int LeastWidth = 40, MostWidth = 160;

    private readonly IAnsiConsole? _tables;
    private readonly IAnsiConsole? _progress;

    /// <summary>A console for pipes, and for tests.</summary>
    public ToolConsole(TextWriter output, TextWriter error, int width = WidthOfPipes)
        : this(output, error, null, null, width)
    {
    }

    private ToolConsole(TextWriter output, TextWriter error, IAnsiConsole? tables, IAnsiConsole? progress, int width)
    {
        Width = width;
        Output = output;
        Error = error;
        _tables = tables;
        _progress = progress;
    }

    /// <summary>Columns that help is wrapped to.</summary>
    public int Width { get; }

    public TextWriter Output { get; }

    public TextWriter Error { get; }

    /// <summary>The process's own console, each stream plain or rich by where it leads.</summary>
    public static ToolConsole OfProcess() => new(
        Console.Out,
        Console.Error,
        Console.IsOutputRedirected ? null : AnsiConsole.Console,
        Console.IsErrorRedirected ? null : AnsiConsole.Create(new AnsiConsoleSettings { Out = new AnsiConsoleOutput(Console.Error) }),
        Console.IsOutputRedirected ? WidthOfPipes : Math.Clamp(Console.WindowWidth, LeastWidth, MostWidth));

    /// <summary>A line of the result. Names in it come from files: what a terminal would obey is written out.</summary>
    public void Line(string text = "") => Output.WriteLine(Names.Printable(text));

    /// <summary>A line about what went wrong, or what is going on.</summary>
    public void Problem(string text) => Error.WriteLine(Names.Printable(text));

    /// <summary>Names and values, one pair a line, values aligned.</summary>
    public void Facts(params ReadOnlySpan<(string Name, string Value)> facts)
    {
        int width = 0;
        foreach ((string name, _) in facts) width = Math.Max(width, name.Length);
        foreach ((string name, string value) in facts) Line($"{name.PadRight(width)}  {value}".TrimEnd());
    }

    /// <summary>A table; the first column is text, the others are aligned to the right.</summary>
    public void Table(string[] headings, IReadOnlyList<string[]> rows)
    {
        if (_tables is null)
        {
            PlainTable(headings, rows);
            return;
        }

        var table = new Table().Border(TableBorder.Rounded);
        for (int i = 0; i < headings.Length; i++)
        {
            var column = new TableColumn(Markup.Escape(headings[i]));
            table.AddColumn(i == 0 ? column : column.RightAligned());
        }

        foreach (string[] row in rows) table.AddRow([.. row.Select(static cell => Markup.Escape(Names.Printable(cell)))]);
        _tables.Write(table);
    }

    /// <summary>Runs work that reports each of its <paramref name="steps"/>, with a bar if it takes long enough for one to be seen.</summary>
    public T WithProgress<T>(string title, double steps, Func<Action, T> work)
    {
        if (_progress is null) return work(static () => { });
        T result = default!;
        _progress.Progress().AutoClear(true).HideCompleted(true).Start(context =>
        {
            // The work only counts; the display is brought up to date a few times a second, however many threads and steps there are.
            ProgressTask task = context.AddTask(Markup.Escape(title), maxValue: Math.Max(1, steps));
            long done = 0;
            using var timer = new Timer(_ => task.Value = Interlocked.Read(ref done), null, 200, 200);
            result = work(() => Interlocked.Increment(ref done));
            task.Value = task.MaxValue;
        });
        return result;
    }

    /// <summary>Runs work that says how long it will take after its warm-up, with a bar that moves with the clock, or says that it is warming up.</summary>
    public T WithClock<T>(string title, Func<Action<TimeSpan>, T> work)
    {
        if (_progress is null) return work(static _ => { });
        T result = default!;
        _progress.Progress().AutoClear(true).HideCompleted(true).Start(context =>
        {
            var clock = new ClockProgress(title);
            long start = Stopwatch.GetTimestamp();
            ProgressTask task = context.AddTask("-", maxValue: 1);
            Show();
            using var timer = new Timer(_ => Show(), null, 200, 200);
            result = work(clock.Expect);
            task.Value = task.MaxValue;

            void Show()
            {
                (string text, double? share) = clock.At(Stopwatch.GetElapsedTime(start));
                task.Description = Markup.Escape(text);
                task.IsIndeterminate = share is null;
                if (share is { } known) task.Value = known;
            }
        });
        return result;
    }

    private void PlainTable(string[] headings, IReadOnlyList<string[]> rows)
    {
        int[] widths = [.. headings.Select((heading, i) => rows.Select(r => r[i].Length).Append(heading.Length).Max())];
        foreach (string[] row in rows.Prepend(headings))
            Line(string.Join("  ", row.Select((cell, i) => i == 0 ? cell.PadRight(widths[i]) : cell.PadLeft(widths[i]))).TrimEnd());
    }
}
