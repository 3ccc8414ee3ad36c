using System.Text.Json;
using FusedAttention.Checking.Backends;
using FusedAttention.Checking.Measurement;
using FusedAttention.Checking.Problems;
using FusedAttention.Cli.Backends;
using FusedAttention.Cli.Backends.Cpu;
using FusedAttention.Cli.Backends.Cuda;
using FusedAttention.Cli.Backends.Metal;
using FusedAttention.Cuda.Tests.Fakes;
using Xunit;

namespace FusedAttention.Cli.Tests;

/// <summary>The commands on CUDA devices: one that is not there, ones that compute nothing, and the machine's own where it has one.</summary>
public sealed class CudaCommandTests : IDisposable
{
    private static readonly BackendCatalog Without = new(new CpuProvider(), new CudaProvider("No NVIDIA driver."), new MetalProvider());

    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Theory]
    [InlineData("verify")]
    [InlineData("run", "x.safetensors")]
    [InlineData("conform", ".")]
    [InlineData("bench")]
    [InlineData("bench", "--query-length", "8")]
    [InlineData("explain")]
    public async Task It_is_refused_in_one_line_where_there_is_none(params string[] command)
    {
        ToolRun run = await ToolRun.Execute(Without, [.. command, "--backend", "CUDA"]);

        run.AssertRefused();
        Assert.Equal("", run.Output);
        Assert.Equal("--backend cuda: CUDA is not available here: No NVIDIA driver.\n", run.Error);
    }

    [Fact]
    public async Task This_machine_says_why_it_has_none()
    {
        Assert.SkipWhen(CudaDevice.IsSupported, "This machine has a CUDA device.");

        (await ToolRun.Execute("explain", "--backend", "cuda")).AssertRefused($"--backend cuda: CUDA is not available here: {CudaDevice.UnsupportedReason}");

        ToolRun info = await ToolRun.Execute("info");
        info.AssertSucceeds();
        Assert.Contains($"\nbackend cuda   not available: {CudaDevice.UnsupportedReason}\n", info.Output, StringComparison.Ordinal);
        ToolRun help = await ToolRun.Execute("bench", "--help");
        Assert.Contains("cpu, cuda (an NVIDIA GPU), metal (an Apple GPU), or auto, which takes cuda or metal where it can", string.Join(' ', help.Output.Split((char[]?)null, StringSplitOptions.RemoveEmptyEntries)), StringComparison.Ordinal);
    }

    [Fact]
    public async Task Info_lists_devices()
    {
        var second = new RecordingRuntime { Device = new(1, "Other", 8, 6, 84, 101376, 24L << 30, 12040) };

        ToolRun run = await ToolRun.Execute(Machines.With(new RecordingRuntime(), second), "info");

        run.AssertSucceeds();
        Assert.Matches("\nbackend cuda +available\n", run.Output);
        Assert.Matches("^CUDA device +compute capability +multiprocessors +memory +driver$", run.OutputLines[^3].TrimEnd());
        Assert.Matches("^Recorder +9.0 +132 +67.109 MB +.*CUDA 13.0$", run.OutputLines[^2]);
        Assert.Matches("^Other +8.6 +84 +25769.804 MB +.*CUDA 12.4$", run.OutputLines[^1]);
    }

    [Fact]
    public async Task Auto_takes_it_and_options_of_the_cpu_do_not_go_with_it()
    {
        var runtime = new RecordingRuntime();
        ToolRun auto = await ToolRun.Execute(Machines.With(runtime), "explain", "--backend", "auto");
        auto.AssertSucceeds();
        Assert.Equal("--backend auto: cuda, Recorder (compute capability 9.0, device 0), because this machine has a device that its kernels run on.\n", auto.Error);
        Assert.Matches("^backend +cuda\n", auto.Output);

        (await ToolRun.Execute(Machines.With(runtime), "bench", "--backend", "cuda", "--threads", "2")).AssertRefused("--threads speaks of the CPU's kernels");
        (await ToolRun.Execute(Machines.With(runtime), "bench", "--backend", "cuda", "--ceilings", "--query-length", "8")).AssertRefused("--ceilings measures the CPU");
        Assert.All(runtime.Streams, static stream => Assert.Empty(stream.Operations));
    }

    [Fact]
    public async Task What_the_device_does_wrong_is_found_and_what_it_refuses_is_one_line()
    {
        GeneratedCases.Write(_folder.File("dense.safetensors"), GeneratedCases.Dense(), GeneratedCases.Metadata("dense", "fp32"));
        var runtime = new RecordingRuntime { Records = false };
        ToolRun wrong = await ToolRun.Execute(Machines.With(runtime), "run", _folder.File("dense.safetensors"), "--backend", "cuda");
        Assert.Equal(1, wrong.ExitCode);
        Assert.StartsWith("NOT verified", wrong.LastLine, StringComparison.Ordinal);

        runtime.PrepareFailure = new CudaException("The driver refuses kernel plain:\nptxas error");
        ToolRun refused = await ToolRun.Execute(Machines.With(runtime), "run", _folder.File("dense.safetensors"), "--backend", "cuda");
        refused.AssertRefused("The driver refuses kernel plain: ptxas error");
        Assert.Single(refused.Error.Split('\n', StringSplitOptions.RemoveEmptyEntries));

        ToolRun conform = await ToolRun.Execute(Machines.With(runtime), "conform", _folder.Path, "--backend", "cuda");
        Assert.Equal(1, conform.ExitCode);
        Assert.Equal("0 passed, 1 failed, 0 skipped", conform.LastLine);
    }

    [Fact]
    public async Task Bench_times_a_shape()
    {
        var runtime = new RecordingRuntime { Records = false };

        ToolRun run = await ToolRun.Execute(
            Machines.With(runtime), "bench", "--backend", "cuda", "--query-length", "1", "--key-length", "64", "--query-heads", "2", "--dim", "64", "--dtype", "fp16", "--seconds", "0.01", "--json");

        run.AssertSucceeds();
        using JsonDocument json = JsonDocument.Parse(Assert.Single(run.OutputLines));
        Assert.Equal("cuda", json.RootElement.GetProperty("backend").GetString());
        Assert.StartsWith("Recorder", json.RootElement.GetProperty("device").GetString(), StringComparison.Ordinal);
        Assert.StartsWith("wall clock", json.RootElement.GetProperty("clock").GetString(), StringComparison.Ordinal);
        Assert.True(json.RootElement.GetProperty("milliseconds").GetDouble() > 0);
        Assert.False(json.RootElement.TryGetProperty("read_gbps", out _));
    }

    [Fact]
    public void The_table_has_the_shapes_it_is_to_have()
    {
        IReadOnlyList<TimedShape> rows = CudaShapes.Of(hasWarpgroups: false);
        Assert.Equal(rows.Count, rows.Select(static row => row.Name).Distinct(StringComparer.Ordinal).Count());
        TimedShape[] prefills = [.. rows.Where(static row => row.Shape.QueryLength > 1 && row.Shape.QueryHeads == row.Shape.KeyValueHeads && row.Shape.QueryType != Checking.Formats.TensorElementType.Float32)];
        Assert.Equal((48, 18), (prefills.Length, prefills.Count(static row => row.Target is not null)));
        Assert.All(prefills, static row => Assert.True(row.Target is null || row.Shape.QueryType == Checking.Formats.TensorElementType.Float16));
        Assert.All(rows, static row => Assert.Equal(row.Name.StartsWith("decode", StringComparison.Ordinal), row.IsBoundByMemory));
        Assert.Equal(3, rows.Count(static row => row.IsBoundByMemory && row.Target is not null));
    }

    /// <summary>Where the prefill kernel has two forms, each is timed beside the other.</summary>
    [Fact]
    public void The_table_has_both_forms_of_the_prefill_where_there_are_two()
    {
        IReadOnlyList<TimedShape> one = CudaShapes.Of(hasWarpgroups: false), both = CudaShapes.Of(hasWarpgroups: true);
        Assert.Equal(one.Count + 50, both.Count);
        for (int i = 0; i < both.Count; i++)
        {
            if (both[i].Variant is not "wgmma") continue;
            Assert.Equal(("mma", both[i].Shape), (both[i + 1].Variant, both[i + 1].Shape));
        }

        var device = new CudaDevice(new RecordingRuntime());
        var backend = new CudaBackend(device);
        Assert.True(backend.HasWarpgroups);
        backend.Choose("wgmma");
        Assert.Contains("wgmma: blocks", backend.Explain(both.First(static row => row.Variant is "wgmma").Shape, RunOptions.Default).Details, StringComparison.Ordinal);
        backend.Choose("mma");
        Assert.DoesNotContain("wgmma", backend.Explain(both.First(static row => row.Variant is "wgmma").Shape, RunOptions.Default).Details, StringComparison.Ordinal);
        Assert.Throws<ArgumentException>("variant", () => backend.Choose("no such"));
    }

    [Fact]
    public void Memory_of_the_device_is_given_back_outputs_are_poisoned_and_keys_take_turns()
    {
        var runtime = new RecordingRuntime { Device = new RecordingRuntime().Device with { L2Bytes = 100_000 } };
        var device = new CudaDevice(runtime);
        var backend = new CudaBackend(device);
        PreparedCall prepared = backend.Prepare(new CallInputs
        {
            Query = GeneratedCases.Random<Half>("q", 1, 2, 2, 8),
            Key = GeneratedCases.Random<Half>("k", 2, 4000, 1, 8),
            Value = GeneratedCases.Random<Half>("v", 3, 4000, 1, 16),
            Options = AttentionOptions.Default,
        });
        Assert.Equal(5, runtime.Living);
        prepared.Poison();
        Assert.Equal(64, prepared.Output.ToDoubles().Count(double.IsNaN));
        Assert.Equal(4, prepared.LogSumExp.ToDoubles().Count(double.IsNaN));

        // 192,000 bytes of keys and values: three pairs are four times the L2.
        int launches = 0;
        runtime.OnLaunch = (_, _, _) => launches++;
        int before = runtime.Living;
        prepared.Time(AttentionOptions.Default, RunOptions.Default, 3);
        int launched = launches;
        prepared.Time(AttentionOptions.Default, RunOptions.Default, 3);
        Assert.Equal(2 * launched, launches);
        Assert.InRange(runtime.Living - before, 5, 9); // two more pairs, what runs up, and working memory
        prepared.Dispose();
        device.Close();
        Assert.Equal(0, runtime.Living);
    }

    [Theory]
    [InlineData("NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.159.03  Release Build  (dvs-builder@U22)\nGCC version:  gcc version 12.2.0", "580.159.03")]
    [InlineData("NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.54  Tue", "535.54")]
    [InlineData("something else", null)]
    public void The_driver_says_its_version(string text, string? version) => Assert.Equal(version, NvidiaDriver.Find(text));

    [Fact]
    public void A_device_reads_its_memory_at_some_rate()
    {
        Assert.SkipUnless(CudaDevice.IsSupported, CudaDevice.UnsupportedReason ?? "");
        double? rate = ReadRate.Measure(CudaDevice.Default);
        Assert.True(rate > 100, $"{rate} GB/s");
    }
}
