using System.Runtime.InteropServices;
using System.Text.Json;
using Xunit;

namespace FusedAttention.Guides.Tests;

/// <summary>
/// The tool and the sample as native programs, for the oldest processors (no <c>IlcInstructionSet</c>) and for those with AVX2: the reference set within its limits, and the sample's text. A minute or two a program, so it is asked for:
/// <c>FUSEDATTENTION_AOT=1</c>.
/// </summary>
public sealed class NativeAotTests(ITestOutputHelper log) : IDisposable
{
    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Theory]
    [InlineData("")]
    [InlineData("x86-64-v3")]
    public async Task The_tool_passes_the_reference_set(string instructionSet)
    {
        string tool = await Publish("src/FusedAttention.Cli/FusedAttention.Cli.csproj", "fused-attention", instructionSet);
        ProgramRun conform = await ProgramRun.Successful(tool, ReferenceData.Root, "conform", ReferenceData.Subset);
        Assert.Matches(@"(?m)^[1-9]\d* passed, 0 failed, 0 skipped", conform.Output);

        ProgramRun explain = await ProgramRun.Successful(tool, ReferenceData.Root, "explain");
        string expected = instructionSet.Length > 0 ? "Avx2" : "Vector128";
        Assert.Matches($"(?m)^instruction set +{expected}", explain.Output);
        if (instructionSet.Length == 0) Assert.Contains("compiled ahead of time without AVX", explain.Output, StringComparison.Ordinal);
    }

    [Fact]
    public async Task The_sample_writes_its_text()
    {
        string sample = await Publish("samples/TextGeneration/TextGeneration.csproj", "TextGeneration", "x86-64-v3"), folder = Path.Combine(ReferenceData.Root, "samples", "TextGeneration", "models", "kjv-alibi-6m");
        using var reference = JsonDocument.Parse(await File.ReadAllTextAsync(Path.Combine(folder, "reference.json"), TestContext.Current.CancellationToken));
        string prompt = reference.RootElement.GetProperty("prompt").GetString()!;
        ProgramRun run = await ProgramRun.Successful(sample, _folder.Path, "--model", Path.Combine(folder, "model.safetensors"), "--prompt", prompt, "--tokens", "200");
        Assert.Equal(reference.RootElement.GetProperty("greedy_text").GetString()!, run.Output.TrimEnd('\n', '\r'));
    }

    private async Task<string> Publish(string project, string name, string instructionSet)
    {
        Assert.SkipUnless(Environment.GetEnvironmentVariable("FUSEDATTENTION_AOT") is "1", "FUSEDATTENTION_AOT=1 asks for it: minutes.");
        Assert.SkipUnless(RuntimeInformation.ProcessArchitecture == Architecture.X64, "The instruction sets are those of x86-64.");
        string output = _folder.File("published");
        await ProgramRun.Successful(
            "dotnet", ReferenceData.Root, "publish", project, "-c", "Release", "--use-current-runtime", "-p:PublishAot=true", "-p:PackAsTool=false", $"-p:IlcInstructionSet={instructionSet}", $"-p:ArtifactsPath={_folder.File("artifacts")}",
            "-o", output).ConfigureAwait(false);
        string program = Path.Combine(output, OperatingSystem.IsWindows() ? name + ".exe" : name);
        log.WriteLine($"{name}, {(instructionSet.Length > 0 ? instructionSet : "no instruction set")}: {new FileInfo(program).Length / 1e6:0.0} MB");
        return program;
    }
}
