using System.Text.Json;
using FusedAttention.Metal.Emulation;
using FusedAttention.Metal.Planning;
using Xunit;

namespace FusedAttention.Cli.Tests;

/// <summary>Kernel text as files; what is in them is the Metal tests' affair.</summary>
public sealed class KernelSourceTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public async Task A_drop_in_is_one_file_with_the_head_dimensions_asked_for()
    {
        string file = _folder.File("attention.metal");
        ToolRun run = await ToolRun.Execute("metal-source", "--drop-in", file, "--head-dims", "32,96");
        run.AssertSucceeds();
        string text = await File.ReadAllTextAsync(file, TestContext.Current.CancellationToken);
        Assert.Contains("kernel void paged_attention(", text, StringComparison.Ordinal);
        Assert.Contains("#define HEAD_DIMS(of) of(32) of(96)", text, StringComparison.Ordinal);
        Assert.DoesNotContain("#line", text, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Json_names_the_files_that_are_there()
    {
        ToolRun run = await ToolRun.Execute("metal-source", "--drop-in", _folder.File("a.metal"), "--head-dims", "64", "--all", _folder.File("all"), "--json");
        run.AssertSucceeds();
        JsonElement json = JsonDocument.Parse(run.OutputLines.Single()).RootElement;
        Assert.Equal([64], json.GetProperty("head_dims").EnumerateArray().Select(static dim => dim.GetInt32()));
        IEnumerable<string> files = Directory.GetFiles(_folder.File("all")).Append(_folder.File("a.metal"));
        Assert.Equal(files.Order(StringComparer.Ordinal), json.GetProperty("output_files").EnumerateArray().Select(static file => file.GetString()!).Order(StringComparer.Ordinal), StringComparer.Ordinal);
    }

    /// <summary>What the workflow gives to Apple's compiler.</summary>
    [Fact]
    public async Task All_libraries_are_files_of_their_own()
    {
        ToolRun run = await ToolRun.Execute("metal-source", "--all", _folder.File("all"));
        run.AssertSucceeds();
        string[] files = [.. Directory.GetFiles(_folder.File("all")).Select(file => Path.GetFileName(file)!)];
        Assert.Equal($"{files.Length} files in {_folder.File("all")}", run.LastLine);
        foreach (string family in (string[])["prefill-half-half-128-128-", "prefill-bfloat_bits-bfloat_bits-64-64-", "decode-float-bfloat_bits-80-40-", "plain-float-float-33-100-", "merge-", "cache-", "lanemap", "drop_in"])
        {
            Assert.Contains(files, file => file.StartsWith(family, StringComparison.Ordinal));
        }
    }

    [Theory]
    [InlineData("Nothing to write")]
    [InlineData("'x' is no head dimension", "--drop-in", "FILE", "--head-dims", "64,x")]
    [InlineData("65", "--drop-in", "FILE", "--head-dims", "65")]
    public async Task What_cannot_be_written_is_refused(string reason, params string[] options)
        => (await ToolRun.Execute(["metal-source", .. options.Select(option => option is "FILE" ? _folder.File("a.metal") : option)])).AssertRefused(reason);

    /// <summary>The libraries that <c>--all</c> writes, each compiled once; one that does not compile fails the command and not the rest.</summary>
    [Fact]
    public async Task Compiling_alone_runs_nothing()
    {
        using RecordingRuntime runtime = Machines.Idle();
        ToolRun run = await ToolRun.Execute(Machines.With(runtime), "verify", "--backend", "metal", "--compile-only");
        run.AssertSucceeds();
        int libraries = KernelCatalog.Libraries().Count();
        Assert.Equal($"{libraries} compiled, 0 failed", run.LastLine);
        Assert.Equal(libraries, runtime.Prepared.Distinct().Count());
        Assert.Empty(runtime.Submissions);

        runtime.PrepareFailure = new MetalException("out of registers");
        ToolRun failing = await ToolRun.Execute(Machines.With(runtime), "verify", "--backend", "metal", "--compile-only", "--any-device");
        Assert.Equal(1, failing.ExitCode);
        Assert.Equal($"{libraries - 1} compiled, 1 failed", failing.LastLine);
        Assert.Contains("out of registers", failing.Output, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Compiling_alone_takes_no_files_and_no_backend_without_a_compiler()
    {
        (await ToolRun.Execute("verify", "--compile-only")).AssertRefused("compiles nothing");
        using RecordingRuntime runtime = Machines.Idle();
        (await ToolRun.Execute(Machines.With(runtime), "verify", _folder.Path, "--backend", "metal", "--compile-only")).AssertRefused("computes nothing");
    }
}
