using System.Runtime.InteropServices;
using System.Text;
using System.Text.Json;
using Xunit;

namespace FusedAttention.Guides.Tests;

/// <summary>
/// The tool, the sample and a program with functions of its own as native programs, for the oldest processors (no <c>IlcInstructionSet</c>) and for those with AVX2: the reference set within its limits, the sample's text, and the bits
/// that the same functions give under the JIT. A minute or two a program, so it is asked for:
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

    /// <summary>
    /// A project from nothing, outside of the repository and its settings, which takes <see cref="FunctionCalls"/> as its own source. Under the JIT the same program has the instructions hidden that the native one was compiled
    /// without: 128-bit kernels have other bits where multiply-adds are fused.
    /// </summary>
    [Theory]
    [InlineData("", CpuInstructionSet.Vector128, "DOTNET_EnableAVX2=0")]
    [InlineData("x86-64-v3", CpuInstructionSet.Avx2, "DOTNET_EnableAVX512=0")]
    public async Task A_program_with_functions_of_its_own_gives_the_bits_of_the_JIT(string instructionSet, CpuInstructionSet expected, string hidden)
    {
        Directory.CreateDirectory(_folder.File("functions"));
        string project = _folder.Write("functions/Functions.csproj", Encoding.UTF8.GetBytes($"""
            <Project Sdk="Microsoft.NET.Sdk">
              <PropertyGroup>
                <OutputType>Exe</OutputType>
                <TargetFramework>net{Environment.Version.Major}.0</TargetFramework>
                <ImplicitUsings>enable</ImplicitUsings>
                <Nullable>enable</Nullable>
                <InvariantGlobalization>true</InvariantGlobalization>
              </PropertyGroup>
              <ItemGroup>
                <Compile Include="{Path.Combine(ReferenceData.Root, "tests", "FusedAttention.Guides.Tests", "FunctionCalls.cs")}" />
                <ProjectReference Include="{Path.Combine(ReferenceData.Root, "src", "FusedAttention", "FusedAttention.csproj")}" />
              </ItemGroup>
            </Project>
            """));
        _folder.Write("functions/Program.cs", """
            using FusedAttention.Guides.Tests;

            foreach (FunctionCall call in FunctionCalls.All)
            {
                byte[] bytes = [.. FunctionCalls.Run(call).SelectMany(BitConverter.GetBytes)];
                Console.WriteLine($"{call.Name}: {FunctionCalls.Explain(call).InstructionSet} {Convert.ToHexString(bytes)}");
            }
            """u8);
        string program = await Publish(project, "Functions", instructionSet), assembly = Assert.Single(Directory.GetFiles(_folder.File("artifacts/bin"), "Functions.dll", SearchOption.AllDirectories));
        ProgramRun native = await ProgramRun.Successful(program, _folder.Path), jit = await ProgramRun.Under(hidden, "dotnet", _folder.Path, "exec", assembly);
        Assert.True(jit.ExitCode == 0, jit.Error);
        string[] lines = native.Output.ReplaceLineEndings("\n").TrimEnd('\n').Split('\n');
        Assert.Equal(FunctionCalls.All.Select(c => $"{c.Name}: {expected}"), lines.Select(static l => l[..l.LastIndexOf(' ')]), StringComparer.Ordinal);
        Assert.Equal(jit.Output.ReplaceLineEndings("\n").TrimEnd('\n').Split('\n'), lines, StringComparer.Ordinal);
    }

    /// <summary>What the native program is compared with: softmax over the functions' values, in double precision.</summary>
    [Fact]
    public void The_calls_of_that_program_are_right()
    {
        foreach (FunctionCall call in FunctionCalls.All)
        {
            const int Row = FunctionCalls.Heads * FunctionCalls.Dim;
            float[] query = FunctionCalls.Numbers(call.Queries * Row, 1), key = FunctionCalls.KeyNumbers(call, 2), value = FunctionCalls.KeyNumbers(call, 3), output = FunctionCalls.Run(call);
            double scale = call.Options.Scale ?? 1 / Math.Sqrt(FunctionCalls.Dim);
            foreach ((int i, int h) in Enumerable.Range(0, call.Queries).SelectMany(static i => Enumerable.Range(0, FunctionCalls.Heads).Select(h => (i, h))))
            {
                int position = call.Keys - call.Queries + i, head = h * FunctionCalls.Dim;
                double Score(int j) => scale * Enumerable.Range(head, FunctionCalls.Dim).Sum(d => (double)query[(i * Row) + d] * key[(j * Row) + d]);
                (int Key, double Score)[] seen = [.. Enumerable.Range(0, position + 1).Where(j => call.Options.MaskFunction?.Evaluate(0, h, i, position, j) ?? true)
                    .Select(j => (j, call.Options.ScoreFunction?.Evaluate(Score(j), 0, h, i, position, j) ?? Score(j)))];
                double most = seen.Max(static s => s.Score), sum = seen.Sum(s => Math.Exp(s.Score - most));
                for (int d = head; d < head + FunctionCalls.Dim; d++)
                    Assert.True(Math.Abs((seen.Sum(s => Math.Exp(s.Score - most) * value[(s.Key * Row) + d]) / sum) - output[(i * Row) + d]) < 2e-6, $"{call.Name}: query {i}, element {d}");
            }
        }
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
