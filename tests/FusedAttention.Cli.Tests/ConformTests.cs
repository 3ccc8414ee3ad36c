using System.Text.Json;
using FusedAttention.Checking.Formats;
using Xunit;

namespace FusedAttention.Cli.Tests;

public sealed class ConformTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Theory]
    [InlineData()]
    [InlineData("--variant", "Scalar")]
    [InlineData("--row-invariant", "--threads", "1")]
    public async Task A_folder_of_every_layout_passes(params string[] options)
    {
        WriteAll();

        ToolRun run = await ToolRun.Execute(["conform", _folder.Path, .. options]);

        run.AssertSucceeds();
        Assert.Equal("3 passed, 0 failed, 0 skipped", run.LastLine);
        Assert.Equal(["group", "dense", "paged", "varlen"], run.OutputLines[..4].Select(l => l.Split(' ')[0]), StringComparer.Ordinal);
    }

    [Theory]
    [InlineData("o")]
    [InlineData("lse")]
    [InlineData("lse_excl_sink")]
    public async Task A_wrong_expectation_fails(string name)
    {
        WriteAll();
        Dictionary<string, LoadedTensor> tensors = GeneratedCases.Dense();
        Dictionary<string, string> metadata = GeneratedCases.Metadata("dense", "fp32");
        string path = _folder.File("dense.safetensors");
        GeneratedCases.Write(path, tensors, metadata);
        double[] values = tensors[name].ToDoubles();
        values[^1] += 1e-3;
        tensors[name] = LoadedTensor.Create<double>(name, values, [.. tensors[name].Shape]).ConvertTo(tensors[name].ElementType);
        SafeTensorsWriter.Write(path, [.. tensors.Values], metadata);

        ToolRun run = await ToolRun.Execute("conform", _folder.Path);

        Assert.Equal(1, run.ExitCode);
        Assert.Equal("2 passed, 1 failed, 0 skipped", run.LastLine);
        Assert.Contains("FAILED dense: ", run.Output, StringComparison.Ordinal);
        Assert.Contains($"at element {values.Length - 1} of {values.Length}", run.Output, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Files_of_another_form_are_skipped_with_a_reason_and_damaged_ones_fail()
    {
        WriteAll();
        SafeTensorsWriter.Write(_folder.File("other.safetensors"), [LoadedTensor.Create<float>("x", [1], 1)]);
        Directory.CreateDirectory(_folder.File("below"));
        _folder.Write("below/damaged.safetensors", [1, 2, 3]);
        _folder.Write("notes.txt", "no tensors"u8);

        ToolRun run = await ToolRun.Execute("conform", _folder.Path);

        Assert.Equal(1, run.ExitCode);
        Assert.Equal("3 passed, 1 failed, 1 skipped", run.LastLine);
        Assert.Contains("skipped other.safetensors: the metadata has no 'layout'", run.Output, StringComparison.Ordinal);
        Assert.Contains("damaged.safetensors: is 3 bytes long", run.Output, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Json_counts_and_names_what_failed()
    {
        WriteAll();
        _folder.Write("bad.safetensors", [1, 2, 3]);
        ToolRun run = await ToolRun.Execute("conform", _folder.Path, "--json");
        Assert.Equal(1, run.ExitCode);
        JsonElement json = JsonDocument.Parse(run.Output).RootElement;
        Assert.Equal((3, 1, 0), (json.GetProperty("passed").GetInt32(), json.GetProperty("failed").GetInt32(), json.GetProperty("skipped").GetInt32()));
        Assert.Equal("bad", json.GetProperty("failures")[0].GetProperty("case").GetString());
    }

    /// <summary>One link that leads nowhere is one failure, and the others are run.</summary>
    [Fact]
    public async Task A_file_that_cannot_be_opened_fails_alone()
    {
        Assert.SkipWhen(OperatingSystem.IsWindows(), "Links need rights there that a test has not.");
        WriteAll();
        File.CreateSymbolicLink(_folder.File("gone.safetensors"), _folder.File("nowhere"));

        ToolRun run = await ToolRun.Execute("conform", _folder.Path);

        Assert.Equal(1, run.ExitCode);
        Assert.Equal("3 passed, 1 failed, 0 skipped", run.LastLine);
        Assert.Contains("FAILED gone: ", run.Output, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_folder_without_cases_is_an_error()
    {
        SafeTensorsWriter.Write(_folder.File("other.safetensors"), [LoadedTensor.Create<float>("x", [1], 1)]);

        ToolRun run = await ToolRun.Execute("conform", _folder.Path);

        run.AssertRefused("No file of the reference form");
        Assert.Equal("0 passed, 0 failed, 1 skipped", run.LastLine);
        (await ToolRun.Execute("conform", _folder.File("absent"))).AssertRefused("There is no folder");
    }

    [Fact]
    public async Task The_whole_reference_set_passes()
    {
        string? folder = SharedData.ReferenceSet();
        Assert.SkipWhen(folder is null, "There is no reference set, neither in the repository nor beside it.");

        ToolRun run = await ToolRun.Execute("conform", folder!);

        run.AssertSucceeds();
        Assert.Matches("^[1-9][0-9]* passed, 0 failed, 0 skipped$", run.LastLine);
    }

    private void WriteAll()
    {
        GeneratedCases.Write(_folder.File("dense.safetensors"), GeneratedCases.Dense(), GeneratedCases.Metadata("dense", "fp32"));
        GeneratedCases.Write(_folder.File("packed.safetensors"), GeneratedCases.Packed(), GeneratedCases.Metadata("varlen", "fp16", ("window_left", "2")));
        GeneratedCases.Write(_folder.File("paged.safetensors"), GeneratedCases.Paged(), GeneratedCases.Metadata("paged", "bf16", ("softcap", "3")));
    }
}
