using System.Text.Json;
using FusedAttention.Cli.Backends;
using FusedAttention.Metal.Emulation;
using Xunit;

namespace FusedAttention.Cli.Tests;

/// <summary>Choosing a backend: what is not there is refused, what is chosen is said.</summary>
public sealed class BackendTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Theory]
    [InlineData("verify")]
    [InlineData("run", "x.safetensors")]
    [InlineData("conform", ".")]
    [InlineData("bench")]
    [InlineData("bench", "--query-length", "8")]
    [InlineData("explain")]
    public async Task Metal_is_refused_in_one_line_where_there_is_none(params string[] command)
    {
        Assert.SkipWhen(MetalDevice.IsSupported, "This machine has a Metal device.");

        ToolRun run = await ToolRun.Execute([.. command, "--backend", "metal"]);

        run.AssertRefused("--backend metal: Metal is not available here: ");
        Assert.Equal("", run.Output);
        Assert.Single(run.Error.Split('\n', StringSplitOptions.RemoveEmptyEntries));
    }

    [Fact]
    public async Task Info_says_why_there_is_no_metal()
    {
        Assert.SkipWhen(MetalDevice.IsSupported, "This machine has a Metal device.");

        ToolRun run = await ToolRun.Execute("info");

        run.AssertSucceeds();
        Assert.Matches("\nbackend metal +not available: .+", run.Output);
    }

    [Fact]
    public async Task Auto_says_what_it_chose_and_why()
    {
        using RecordingRuntime runtime = Machines.Idle();
        BackendCatalog idle = Machines.With(runtime);
        ToolRun metal = await ToolRun.Execute(idle, "explain", "--backend", "auto");
        metal.AssertSucceeds();
        Assert.Matches("^--backend auto: metal, Idle M4 .*, because this machine has a device that its kernels run on.\n$", metal.Error);
        Assert.Matches("^backend +metal\n", metal.Output);

        ToolRun threads = await ToolRun.Execute(idle, "explain", "--backend", "auto", "--threads", "1");
        threads.AssertSucceeds();
        Assert.Equal("--backend auto: cpu, because --threads speaks of the CPU's kernels.\n", threads.Error);
        Assert.Matches("^backend +cpu\n", threads.Output);

        Assert.SkipWhen(MetalDevice.IsSupported || CudaDevice.IsSupported, "This machine has a GPU.");
        ToolRun cpu = await ToolRun.Execute("bench", "--backend", "auto", "--query-length", "8", "--seconds", "0.01", "--json");
        cpu.AssertSucceeds();
        Assert.Matches("^--backend auto: cpu, because CUDA is not available here: .+; Metal is not available here: .+", cpu.Error);
        using JsonDocument json = JsonDocument.Parse(Assert.Single(cpu.OutputLines));
        Assert.Equal("cpu", json.RootElement.GetProperty("backend").GetString());
        Assert.Equal(JsonValueKind.Null, json.RootElement.GetProperty("device").ValueKind);
    }

    [Theory]
    [InlineData("--threads 2", "--threads speaks of the CPU's kernels")]
    [InlineData("--variant Scalar", "--instruction-set speaks of the CPU's kernels")]
    [InlineData("--machine-code Off", "--machine-code speaks of the CPU's kernels")]
    [InlineData("--ceilings --query-length 8", "--ceilings measures the CPU")]
    public async Task Options_of_the_cpu_do_not_go_with_metal(string option, string words)
    {
        using RecordingRuntime runtime = Machines.Idle();
        (await ToolRun.Execute(Machines.With(runtime), ["bench", "--backend", "metal", .. option.Split(' ')])).AssertRefused(words);
        Assert.Empty(runtime.Submissions);
    }

    [Fact]
    public async Task Info_lists_devices_and_asks_for_their_lane_map()
    {
        using RecordingRuntime known = Machines.Idle(), unknown = Machines.Idle(hasKnownLaneMap: false);
        using RecordingRuntime broken = new() { Device = unknown.Device, OnLaunch = static _ => throw new MetalException("one\ntwo") };

        ToolRun run = await ToolRun.Execute(Machines.With(known, unknown, broken), "info");

        run.AssertSucceeds();
        Assert.Matches("backend metal +available\n", run.Output);
        string[] rows = run.OutputLines[^3..];
        Assert.All(rows, row => Assert.Matches("^Idle M4 +9 +134.218 MB +", row));
        Assert.EndsWith("as expected", rows[0], StringComparison.Ordinal);
        Assert.EndsWith("differ, prefill is not used; verify --backend metal shows how", rows[1], StringComparison.Ordinal);
        Assert.EndsWith("the self-test failed: one two", rows[2], StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_failure_of_the_device_is_one_line()
    {
        using RecordingRuntime runtime = Machines.Idle();
        runtime.PrepareFailure = new MetalException("the kernel does not compile:\nprefill.metal:7: error");
        GeneratedCases.Write(_folder.File("dense.safetensors"), GeneratedCases.Dense(), GeneratedCases.Metadata("dense", "fp32"));

        ToolRun run = await ToolRun.Execute(Machines.With(runtime), "run", _folder.File("dense.safetensors"), "--backend", "metal");

        run.AssertRefused("the kernel does not compile: prefill.metal:7: error");
        Assert.Single(run.Error.Split('\n', StringSplitOptions.RemoveEmptyEntries));
    }
}
