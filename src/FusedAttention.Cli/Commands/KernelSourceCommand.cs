using System.CommandLine;
using System.Globalization;
using FusedAttention.Checking.Problems;
using FusedAttention.Cli.Backends;

namespace FusedAttention.Cli.Commands;

/// <summary><c>metal-source</c>: the text of a backend's kernels as files, for other compilers and other hosts. Runs on any machine.</summary>
internal sealed class KernelSourceCommand
{
    private readonly Option<string?> _dropIn = new("--drop-in") { Description = "Write one file that stands alone: docs/metal-drop-in.md says how hosts call it.", HelpName = "FILE" };
    private readonly Option<string?> _headDims = new("--head-dims") { Description = "Head dimensions that the file has kernels for; calls take any up to the largest.", HelpName = "LIST" };
    private readonly Option<string?> _all = new("--all") { Description = "Write the libraries as they are compiled at run time, of every kind that there is, and the drop-in.", HelpName = "FOLDER" };
    private readonly Option<bool> _json = JsonReport.NewOption();
    private readonly ToolConsole _console;
    private readonly IKernelSource _source;

    private KernelSourceCommand(ToolConsole console, IKernelSource source) => (_console, _source) = (console, source);

    public static Command Create(ToolConsole console, BackendCatalog backends, IBackendProvider provider, IKernelSource source)
    {
        var command = new KernelSourceCommand(console, source);
        string description = $"""
            Write the text of the {provider.Title} kernels.
            One file that hosts without this library can call, or every library that this one compiles at run time.

            Examples:
              fused-attention {provider.Name}-source --drop-in attention.metal
              fused-attention {provider.Name}-source --drop-in attention.metal --head-dims 64,128
              fused-attention {provider.Name}-source --all kernels
            """;
        return new ToolCommand($"{provider.Name}-source", description) { command._dropIn, command._headDims, command._all, command._json }.WithAction(console, backends, command.Execute);
    }

    private int Execute(ParseResult parsed, CancellationToken cancellation)
    {
        (string? dropIn, string? all) = (parsed.GetValue(_dropIn), parsed.GetValue(_all));
        if (dropIn is null && all is null) throw new UsageException("Nothing to write: give --drop-in FILE or --all FOLDER.");
        int[] headDims = HeadDims(parsed.GetValue(_headDims));
        bool isJson = parsed.GetValue(_json);
        var written = new List<string>();
        if (dropIn is not null)
        {
            string text = _source.DropIn(headDims);
            File.WriteAllText(dropIn, text);
            written.Add(dropIn);
            if (!isJson) _console.Line($"{dropIn}: {text.Count('\n')} lines");
        }

        if (all is not null) WriteAll(all, headDims, written, cancellation);
        if (isJson) _console.Line(JsonReport.OfSource(headDims, written));
        else if (all is not null) _console.Line($"{written.Count - (dropIn is null ? 0 : 1)} files in {all}");
        return ExitCode.Success;
    }

    private void WriteAll(string folder, int[] headDims, List<string> written, CancellationToken cancellation)
    {
        Directory.CreateDirectory(folder);
        foreach (SourceFile file in _source.Libraries().Append(new("drop_in.metal", _source.DropIn(headDims))))
        {
            cancellation.ThrowIfCancellationRequested();
            string path = Path.Combine(folder, file.Name);
            File.WriteAllText(path, file.Text);
            written.Add(path);
        }
    }

    private int[] HeadDims(string? list)
    {
        if (list is null) return [.. _source.DefaultHeadDims];
        return [.. list.Split(',').Select(text => int.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out int dim) ? dim : throw new UsageException($"--head-dims {list}: '{text}' is no head dimension."))];
    }
}
