using System.Text.Json;
using FusedAttention.Checking.Backends;
using FusedAttention.Checking.Formats;
using FusedAttention.Checking.Problems;
using FusedAttention.Cli.Backends;
using FusedAttention.Cli.Backends.Metal;
using FusedAttention.Metal.Emulation;
using Xunit;

namespace FusedAttention.Cli.Tests;

/// <summary>The commands on a Metal device: an emulated one where numbers matter, one that computes nothing where they do not.</summary>
public sealed class MetalCommandTests(ITestOutputHelper log) : IDisposable
{
    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public async Task Run_and_verify_compute_on_the_device()
    {
        using EmulatedRuntime runtime = Machines.Emulator();
        BackendCatalog machine = Machines.With(runtime);
        string input = _folder.File("input.safetensors"), output = _folder.File("o.safetensors");
        SafeTensorsWriter.Write(
            input, [GeneratedCases.Random<float>("q", 1, 1, 2, 4, 20), GeneratedCases.Random<float>("k", 2, 1, 9, 2, 20), GeneratedCases.Random<float>("v", 3, 1, 9, 2, 20), GeneratedCases.Random<Half>("shift", 4, 2, 9)]);
        string[] options = ["--causal", "--alibi", "--bias", "shift", "--key-lengths", "8"];

        ToolRun run = await ToolRun.Execute(machine, ["run", input, .. options, "--backend", "metal", "--lse", "--output", output]);

        run.AssertSucceeds();
        Assert.StartsWith("verified against double precision", run.LastLine, StringComparison.Ordinal);
        Assert.Matches("\nbackend +metal\ndevice +Emulated M1 .*\nkernel +plain\n", run.Output);
        Assert.DoesNotContain("threads", run.Output, StringComparison.Ordinal);
        (await ToolRun.Execute(["verify", input, .. options, "--output-file", output])).AssertSucceeds();
        ToolRun verify = await ToolRun.Execute(machine, ["verify", input, .. options, "--backend", "metal"]);
        verify.AssertSucceeds();
        Assert.Contains("computed here (metal, plain, Emulated M1", verify.Output, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Conform_and_verify_run_a_folder()
    {
        using EmulatedRuntime runtime = Machines.Emulator();
        GeneratedCases.Write(_folder.File("dense.safetensors"), GeneratedCases.Dense(), GeneratedCases.Metadata("dense", "fp32"));
        GeneratedCases.Write(_folder.File("paged.safetensors"), GeneratedCases.Paged(), GeneratedCases.Metadata("paged", "bf16", ("softcap", "3")));

        ToolRun run = await ToolRun.Execute(Machines.With(runtime), "conform", _folder.Path, "--backend", "metal");

        run.AssertSucceeds();
        Assert.Equal("2 passed, 0 failed, 0 skipped", run.LastLine);
    }

    [Fact]
    public async Task A_wrong_result_of_the_device_fails()
    {
        using RecordingRuntime runtime = Machines.Idle();
        GeneratedCases.Write(_folder.File("dense.safetensors"), GeneratedCases.Dense(), GeneratedCases.Metadata("dense", "fp32"));

        ToolRun conform = await ToolRun.Execute(Machines.With(runtime), "conform", _folder.Path, "--backend", "metal");
        Assert.Equal(1, conform.ExitCode);
        Assert.Equal("0 passed, 1 failed, 0 skipped", conform.LastLine);

        ToolRun run = await ToolRun.Execute(Machines.With(runtime), "run", _folder.File("dense.safetensors"), "--backend", "metal");
        Assert.Equal(1, run.ExitCode);
        Assert.StartsWith("NOT verified", run.LastLine, StringComparison.Ordinal);
    }

    /// <summary>A score function, a mask function, and both, out of the committed subset; all of it is in the tests of the backend.</summary>
    [Fact]
    public async Task Conform_takes_functions()
    {
        using EmulatedRuntime runtime = Machines.Emulator();
        string[] names = ReferenceData.Names(ReferenceData.FunctionSubset);
        foreach (string group in (string[])["bias", "masked", "composed"])
        {
            string name = names.First(name => name.StartsWith(group, StringComparison.Ordinal)) + ".safetensors";
            File.Copy(Path.Combine(ReferenceData.FunctionSubset, name), _folder.File(name));
        }

        ToolRun run = await ToolRun.Execute(Machines.With(runtime), "conform", _folder.Path, "--backend", "metal");
        log.WriteLine(run.Output);
        run.AssertSucceeds();
        Assert.Equal("3 passed, 0 failed, 0 skipped", run.LastLine);
    }

    /// <summary>Quantized on their way to the device, out of the committed part of the set, and what is refused there.</summary>
    [Fact]
    public async Task Keys_and_values_of_8_bits_are_known()
    {
        using EmulatedRuntime runtime = Machines.Emulator();
        string input = _folder.File("input.safetensors"), folder = Path.Combine(ReferenceData.Root, "tests", "data", "reference-kv8");
        SafeTensorsWriter.Write(input, [GeneratedCases.Random<float>("q", 1, 1, 2, 4, 32), GeneratedCases.Random<float>("k", 2, 1, 9, 2, 32), GeneratedCases.Random<float>("v", 3, 1, 9, 2, 32)]);
        BackendCatalog machine = Machines.With(runtime);
        ToolRun run = await ToolRun.Execute(machine, "run", input, "--backend", "metal", "--kv-dtype", "int8", "--output", _folder.File("o.safetensors"));
        run.AssertSucceeds();
        Assert.StartsWith("verified against double precision", run.LastLine, StringComparison.Ordinal);
        (await ToolRun.Execute(machine, "run", input, "--backend", "metal", "--kv-dtype", "q8_0")).AssertRefused("of 8 bits the Metal kernels take Int8 and Float8E4M3");

        string cases = Directory.CreateDirectory(_folder.File("cases")).FullName;
        foreach (string file in (string[])["edge-002", "quantize-000"]) foreach (string path in Directory.GetFiles(folder, file + "*")) File.Copy(path, Path.Combine(cases, Path.GetFileName(path)));
        ToolRun conform = await ToolRun.Execute(machine, "conform", cases, "--backend", "metal");
        conform.AssertSucceeds();
        Assert.Equal("2 passed, 0 failed, 0 skipped", conform.LastLine);
    }

    [Fact]
    public async Task Bench_times_a_shape_on_the_device()
    {
        using EmulatedRuntime runtime = Machines.Emulator();

        string[] shape = ["--query-length", "2", "--key-length", "20", "--query-heads", "2", "--dim", "20", "--seconds", "0.01"];
        ToolRun text = await ToolRun.Execute(Machines.With(runtime), ["bench", "--backend", "metal", .. shape]);
        log.WriteLine(text.Output);
        text.AssertSucceeds();
        Assert.Matches("\ndevice +Emulated M1 .*\nkernel +plain\ntime .* trials, wall clock", text.Output);

        ToolRun run = await ToolRun.Execute(Machines.With(runtime), ["bench", "--backend", "metal", .. shape, "--json"]);

        run.AssertSucceeds();
        using JsonDocument json = JsonDocument.Parse(Assert.Single(run.OutputLines));
        Assert.Equal("metal", json.RootElement.GetProperty("backend").GetString());
        Assert.Equal("plain", json.RootElement.GetProperty("kernel").GetString());
        Assert.StartsWith("Emulated M1", json.RootElement.GetProperty("device").GetString(), StringComparison.Ordinal);
        Assert.Equal(JsonValueKind.Null, json.RootElement.GetProperty("instruction_set").ValueKind);
        Assert.True(json.RootElement.GetProperty("milliseconds").GetDouble() > 0);
    }

    [Slow]
    [Fact]
    public async Task Without_a_shape_bench_goes_through_a_table_with_targets()
    {
        using RecordingRuntime runtime = Machines.Idle();
        BackendCatalog machine = Machines.With(runtime);

        ToolRun run = await ToolRun.Execute(machine, "bench", "--backend", "metal", "--only", "4k D128 fp16", "--seconds", "0.001");

        log.WriteLine(run.Output);
        run.AssertSucceeds();
        Assert.Contains(MetalShapes.TargetNote, run.Output, StringComparison.Ordinal);
        string[] rows = [.. run.OutputLines.SkipWhile(static line => !line.StartsWith("shape", StringComparison.Ordinal)).Skip(1)];
        Assert.Equal(7, rows.Length);
        Assert.Matches(@"^prefill 4k D128 fp16 causal +[0-9.]+ +[0-9.]+ TFLOP/s  6 TFLOP/s$", rows[0]);
        Assert.Matches(@"^prefill 4k D128 fp16 full +[0-9.]+ +[0-9.]+ TFLOP/s$", rows[1]);
        Assert.Matches(@"^decode 4k D128 fp16 32/8 heads +[0-9.]+ +[0-9.]+ GB/s  205 GB/s$", rows[3]);
        Assert.Matches(@"^decode 4k D128 fp16 32/8 heads, paged 16 +[0-9.]+ +[0-9.]+ GB/s$", rows[4]);

        ToolRun lines = await ToolRun.Execute(machine, "bench", "--backend", "metal", "--only", "1k D64 bf16", "--seconds", "0.001", "--json");
        lines.AssertSucceeds();
        Assert.Equal(2, lines.OutputLines.Length);
        foreach (string line in lines.OutputLines)
        {
            using JsonDocument json = JsonDocument.Parse(line);
            Assert.Equal(1024, json.RootElement.GetProperty("query_length").GetInt32());
        }

        (await ToolRun.Execute(machine, "bench", "--backend", "metal", "--only", "9k")).AssertRefused("no row is called so");
        (await ToolRun.Execute(machine, "bench", "--backend", "metal", "--only", "1k", "--dim", "64")).AssertRefused("--only chooses among the rows");
        (await ToolRun.Execute("bench", "--only", "1k")).AssertRefused("--only chooses among the rows");
    }

    [Slow]
    [Fact]
    public async Task A_row_that_fails_does_not_keep_the_others_from_running()
    {
        // 20 MB a tensor: the keys of one row are 32 MB.
        using RecordingRuntime runtime = new() { Device = Machines.Idle().Device with { MaxBufferLength = 20_000_000 } };

        ToolRun run = await ToolRun.Execute(Machines.With(runtime), "bench", "--backend", "metal", "--only", "decode 4k D128 fp16 32/", "--seconds", "0.001");

        Assert.Equal(2, run.ExitCode);
        Assert.Contains("decode 4k D128 fp16 32/32 heads: 33554432 bytes are more than one allocation on Idle M4", run.Error, StringComparison.Ordinal);
        Assert.Contains("decode 4k D128 fp16 32/8 heads ", run.Output, StringComparison.Ordinal);
        Assert.DoesNotContain("\ndecode 4k D128 fp16 32/32 heads", run.Output, StringComparison.Ordinal);
    }

    [Fact]
    public void The_table_has_the_shapes_it_is_to_have()
    {
        Assert.Equal(MetalShapes.All.Count, MetalShapes.All.Select(static row => row.Name).Distinct(StringComparer.Ordinal).Count());
        Assert.Equal(54, MetalShapes.All.Count(static row => row.Name.StartsWith("prefill", StringComparison.Ordinal) && row.Shape.BlockSize is null));
        Assert.All(MetalShapes.All.Where(static row => row.Target == 6), static row => Assert.True(row.Shape is { KeyDim: 128, QueryLength: >= 4096, Mask.IsCausal: true }));
        Assert.Equal(4, MetalShapes.All.Count(static row => row.Target == 205));
        Assert.All(MetalShapes.All, static row => Assert.Equal(row.Name.StartsWith("decode", StringComparison.Ordinal), row.IsBoundByMemory));
    }

    [Fact]
    public void Memory_of_the_device_is_given_back_and_outputs_are_poisoned()
    {
        using RecordingRuntime runtime = Machines.Idle();
        var backend = new MetalBackend(new(runtime));
        PreparedCall prepared = backend.Prepare(new CallInputs
        {
            Query = GeneratedCases.Random<Half>("q", 1, 2, 2, 3),
            Key = GeneratedCases.Random<Half>("k", 2, 4, 1, 3),
            Value = GeneratedCases.Random<Half>("v", 3, 4, 1, 5),
            Options = AttentionOptions.Default,
        });
        Assert.Equal(5, runtime.Living);
        prepared.Poison();
        Assert.Equal(20, prepared.Output.ToDoubles().Count(double.IsNaN));
        Assert.Equal(4, prepared.LogSumExp.ToDoubles().Count(double.IsNaN));
        prepared.Dispose();
        Assert.Equal(0, runtime.Living);
    }
}
