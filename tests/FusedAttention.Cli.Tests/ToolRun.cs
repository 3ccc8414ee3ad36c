using FusedAttention.Cli.Backends;
using FusedAttention.Cli.Commands;
using Xunit;

namespace FusedAttention.Cli.Tests;

/// <summary>The tool in this process: a command line in, exit code and texts out.</summary>
internal sealed record ToolRun(int ExitCode, string Output, string Error)
{
    public string[] OutputLines => Output.Split('\n', StringSplitOptions.RemoveEmptyEntries);

    public string LastLine => OutputLines[^1];

    public static Task<ToolRun> Execute(params string[] arguments) => Execute(null, arguments);

    /// <summary>With backends of the test's own.</summary>
    public static Task<ToolRun> Execute(BackendCatalog? backends, params string[] arguments) => Execute(backends, ToolConsole.WidthOfPipes, arguments);

    /// <summary>With help as wide as a terminal.</summary>
    public static async Task<ToolRun> Execute(BackendCatalog? backends, int width, params string[] arguments)
    {
        using var output = new StringWriter { NewLine = "\n" };
        using var error = new StringWriter { NewLine = "\n" };
        int code = await Cli.Commands.Tool.RunAsync(arguments, new ToolConsole(output, error, width), backends ?? RegisteredBackends.OfThisMachine, TestContext.Current.CancellationToken).ConfigureAwait(false);
        var run = new ToolRun(code, output.ToString(), error.ToString());
        // Whatever happens: no stack trace, and no exception type but in an explanation of our own.
        Assert.DoesNotContain("   at ", run.Output + run.Error, StringComparison.Ordinal);
        Assert.DoesNotContain("Unhandled", run.Output + run.Error, StringComparison.Ordinal);
        return run;
    }

    public void AssertSucceeds() => Assert.True(ExitCode == 0, $"exit code {ExitCode}\n{Output}\n{Error}");

    /// <summary>Asserts exit code 2 and one line on standard error that has these words.</summary>
    public void AssertRefused(params ReadOnlySpan<string> words)
    {
        Assert.True(ExitCode == 2, $"exit code {ExitCode}\n{Output}\n{Error}");
        Assert.NotEqual(0, Error.Length);
        foreach (string word in words) Assert.Contains(word, Error, StringComparison.Ordinal);
    }
}
