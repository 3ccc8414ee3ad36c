using System.Diagnostics;
using Xunit;

namespace FusedAttention.Guides.Tests;

/// <summary>A program that has run to its end.</summary>
/// <param name="ExitCode">0 if all went well.</param>
/// <param name="Output">What it wrote to standard output.</param>
/// <param name="Error">What it wrote to standard error.</param>
internal sealed record ProgramRun(int ExitCode, string Output, string Error)
{
    public static Task<ProgramRun> Of(string program, string folder, params string[] arguments) => Under(null, program, folder, arguments);

    /// <summary>As <see cref="Of"/>, with a variable of the environment (<c>NAME=value</c>) where there is one to set.</summary>
    public static async Task<ProgramRun> Under(string? variable, string program, string folder, params string[] arguments)
    {
        var start = new ProcessStartInfo(program, arguments) { WorkingDirectory = folder, RedirectStandardOutput = true, RedirectStandardError = true, UseShellExecute = false };

        // What the runner of these tests tells its own build is none of a build's that they start.
        foreach (string name in start.Environment.Keys.Where(static name => name.StartsWith("MSBuild", StringComparison.OrdinalIgnoreCase)).ToArray()) start.Environment.Remove(name);
        start.Environment["DOTNET_NOLOGO"] = "1";
        if (variable?.Split('=') is [string key, string content]) start.Environment[key] = content;
        using Process process = Process.Start(start) ?? throw new InvalidOperationException($"{program} did not start.");
        Task<string> output = process.StandardOutput.ReadToEndAsync(TestContext.Current.CancellationToken), error = process.StandardError.ReadToEndAsync(TestContext.Current.CancellationToken);
        await process.WaitForExitAsync(TestContext.Current.CancellationToken).ConfigureAwait(false);
        return new(process.ExitCode, await output.ConfigureAwait(false), await error.ConfigureAwait(false));
    }

    /// <summary>As <see cref="Of"/>, and fails unless the program succeeds.</summary>
    public static async Task<ProgramRun> Successful(string program, string folder, params string[] arguments)
    {
        ProgramRun run = await Of(program, folder, arguments).ConfigureAwait(false);
        Assert.True(run.ExitCode == 0, $"{program} {string.Join(' ', arguments)} ended with {run.ExitCode}:\n{run.Output}\n{run.Error}");
        return run;
    }
}
