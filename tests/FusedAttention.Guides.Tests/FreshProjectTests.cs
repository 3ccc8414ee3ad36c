using System.Text.RegularExpressions;
using Xunit;

namespace FusedAttention.Guides.Tests;

/// <summary>
/// What a newcomer does: a console project made from nothing, the packages added by name from a folder, each example of the README pasted in place of the program, compiled and run; and those of the guide to F#. An example brings its
/// own lines of <c>using</c> or <c>open</c>, or has those of the page's first one. A few minutes, so it is asked for: <c>FUSEDATTENTION_FRESH=1</c>.
/// </summary>
public sealed partial class FreshProjectTests(ITestOutputHelper log) : IDisposable
{
    private const string Version = "0.0.0-fresh";

    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Theory]
    [InlineData("C#", "README.md", "Program.cs", "FusedAttention", "FusedAttention.Cuda", "FusedAttention.Metal")]
    [InlineData("F#", "docs/fsharp.md", "Program.fs", "FusedAttention")]
    public async Task Every_example_compiles_and_runs_in_a_new_project(string language, string page, string program, params string[] packages)
    {
        Assert.SkipUnless(Environment.GetEnvironmentVariable("FUSEDATTENTION_FRESH") is "1", "FUSEDATTENTION_FRESH=1 asks for it: minutes.");
        string source = await Pack(packages), project = _folder.File("attention");
        await Dotnet(_folder.Path, "new", "console", "--language", language, "--output", project, "--no-restore");
        _folder.Write("nuget.config", System.Text.Encoding.UTF8.GetBytes($"""
            <configuration>
              <config><add key="globalPackagesFolder" value="{_folder.File("global")}" /></config>
              <packageSources><add key="packed" value="{source}" /></packageSources>
              <fallbackPackageFolders><add key="user" value="{await UsersPackages()}" /></fallbackPackageFolders>
            </configuration>
            """));
        foreach (string package in packages) await Dotnet(project, "add", "package", package, "--version", Version);

        (string Name, string Code)[] examples = [.. Examples(await File.ReadAllTextAsync(Path.Combine(ReferenceData.Root, page), TestContext.Current.CancellationToken))];
        Assert.NotEmpty(examples);
        foreach ((string name, string code) in examples)
        {
            await File.WriteAllTextAsync(Path.Combine(project, program), code, TestContext.Current.CancellationToken);
            ProgramRun run = await ProgramRun.Of("dotnet", project, "run", "-c", "Release");
            Assert.True(run.ExitCode == 0, $"{page}, {name}: ended with {run.ExitCode}\n{run.Output}\n{run.Error}\n{code}");
            Assert.DoesNotMatch("warning (CS|FS(?!0988))", run.Output); // FS0988: an example that is a function leaves a program with nothing to do
            log.WriteLine($"{page}, {name}: compiled and run");
        }
    }

    /// <summary>Packs into a folder with build products of its own: the repository's are left as they are.</summary>
    private async Task<string> Pack(string[] packages)
    {
        string output = _folder.File("packages");
        foreach (string package in packages)
            await Dotnet(ReferenceData.Root, "pack", $"src/{package}/{package}.csproj", "-c", "Release", "-o", output, $"-p:Version={Version}", $"-p:ArtifactsPath={_folder.File("artifacts")}").ConfigureAwait(false);
        return output;
    }

    /// <summary>Where packages lie that this machine has already: dependencies come from there, without a network.</summary>
    private async Task<string> UsersPackages()
    {
        ProgramRun run = await ProgramRun.Successful("dotnet", ReferenceData.Root, "nuget", "locals", "global-packages", "--list", "--force-english-output").ConfigureAwait(false);
        return run.Output[(run.Output.IndexOf(':', StringComparison.Ordinal) + 1)..].Trim();
    }

    private static IEnumerable<(string Name, string Code)> Examples(string page)
    {
        string imports = "";
        foreach (Match match in Example().Matches(page.ReplaceLineEndings("\n")))
        {
            string own = match.Groups["imports"].Value;
            if (imports.Length == 0) imports = own;
            yield return (match.Groups["name"].Value, (own.Length > 0 ? own : imports) + "\n" + match.Groups["code"].Value);
        }
    }

    private static Task<ProgramRun> Dotnet(string folder, params string[] arguments) => ProgramRun.Successful("dotnet", folder, arguments);

    [GeneratedRegex(@"^<!-- example: (?<name>\w+) -->\s*^```(csharp|fsharp)\n(?<imports>((using|open) [\w.]+;?\n)*)(?<code>.*?)^```", RegexOptions.Singleline | RegexOptions.Multiline | RegexOptions.ExplicitCapture, matchTimeoutMilliseconds: 5000)]
    private static partial Regex Example();
}
