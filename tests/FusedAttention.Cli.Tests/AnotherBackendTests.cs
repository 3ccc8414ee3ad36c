using System.Text.Json;
using FusedAttention.Checking.Backends;
using FusedAttention.Checking.Checks;
using FusedAttention.Checking.Cpu;
using FusedAttention.Checking.Formats;
using FusedAttention.Checking.Measurement;
using FusedAttention.Checking.Problems;
using FusedAttention.Cli.Backends;
using FusedAttention.Cli.Backends.Cpu;
using Xunit;

namespace FusedAttention.Cli.Tests;

/// <summary>A backend that no command has heard of: all that the tool says and does of it comes from its provider.</summary>
public sealed class AnotherBackendTests
{
    [Fact]
    public async Task It_is_named_and_runs()
    {
        BackendCatalog machine = new(new CpuProvider(), new ToyProvider(), new ToyProvider { Name = "other", WhyNone = "nobody built one." });

        ToolRun help = await ToolRun.Execute(machine, "explain", "--help");
        Assert.Contains("cpu, toy (an abacus), other (an abacus), or auto, which takes toy or other where it can", string.Join(' ', help.Output.Split((char[]?)null, StringSplitOptions.RemoveEmptyEntries)), StringComparison.Ordinal);

        ToolRun info = await ToolRun.Execute(machine, "info");
        Assert.Matches("backend cpu +available.*\nbackend toy +ready\nbackend other +ready\n", info.Output);

        ToolRun toy = await ToolRun.Execute(machine, "verify", "--backend", "TOY", "--only", "beads");
        toy.AssertSucceeds();
        Assert.Equal("checks: 1 passed, 0 failed", toy.LastLine);

        ToolRun bench = await ToolRun.Execute(machine, "bench", "--backend", "toy", "--seconds", "0.001");
        bench.AssertSucceeds();
        Assert.Contains("Wishes.", bench.Output, StringComparison.Ordinal);
        Assert.Matches(@"\nfour by four +[0-9.]+ +[0-9.]+ TFLOP/s  7 TFLOP/s$", bench.Output.TrimEnd());
    }

    [Fact]
    public async Task Auto_takes_the_first_that_is_there_and_gives_every_reason_when_none_is()
    {
        ToyProvider absent = new() { Name = "first", Title = "First", WhyNone = "no beads." }, broken = new() { Name = "second", Title = "Second", WhyNone = "no wire" };

        ToolRun there = await ToolRun.Execute(new BackendCatalog(absent, new CpuProvider(), new ToyProvider()), "explain", "--backend", "auto");
        Assert.Equal("--backend auto: toy, because this machine has a device that its kernels run on.\n", there.Error);

        BackendCatalog none = new(absent, new CpuProvider(), broken);
        ToolRun nowhere = await ToolRun.Execute(none, "explain", "--backend", "auto");
        nowhere.AssertSucceeds();
        Assert.Equal("--backend auto: cpu, because First is not available here: no beads; Second is not available here: no wire.\n", nowhere.Error);
        (await ToolRun.Execute(none, "explain", "--backend", "second")).AssertRefused("--backend second: Second is not available here: no wire");
        (await ToolRun.Execute(none, "explain", "--backend", "third")).AssertRefused("'third' is not there: this build has first, cpu, second, and auto");
    }

    [Fact]
    public async Task Its_own_failures_are_one_line()
    {
        BackendCatalog machine = new(new CpuProvider(), new ToyProvider { Failure = new InvalidTimeZoneException("the wire\nis bent") });

        ToolRun run = await ToolRun.Execute(machine, "explain", "--backend", "toy");

        run.AssertRefused("the wire is bent");
        Assert.Equal("the wire is bent\n", run.Error);
        BackendCatalog innocent = new(new CpuProvider(), new ToyProvider { Failure = new InvalidTimeZoneException("bent"), IsFailure = false });
        (await ToolRun.Execute(innocent, "explain", "--backend", "toy")).AssertRefused("Unexpected InvalidTimeZoneException: bent");
    }

    /// <summary>The first call pays for the compiler, on a busy machine with hundreds of milliseconds: however long it was, it is not the time of the call.</summary>
    [Fact]
    public async Task The_first_call_is_never_the_time_of_a_run()
    {
        BackendCatalog machine = new(new CpuProvider(), new ToyProvider { FirstCall = TimeSpan.FromMilliseconds(400) });
        using var folder = new TemporaryFolder();
        string path = folder.File("x.safetensors");
        SafeTensorsWriter.Write(path, [GeneratedCases.Random<float>("q", 1, 2, 1, 3), GeneratedCases.Random<float>("k", 2, 2, 1, 3), GeneratedCases.Random<float>("v", 3, 2, 1, 3)]);

        ToolRun run = await ToolRun.Execute(machine, "run", path, "--backend", "toy", "--json");

        run.AssertSucceeds();
        JsonElement json = JsonDocument.Parse(run.Output).RootElement;
        Assert.Equal(3, json.GetProperty("calls").GetInt32());
        Assert.InRange(json.GetProperty("milliseconds_first").GetDouble(), 400, 60_000);
        Assert.InRange(json.GetProperty("milliseconds").GetDouble(), 0, 399);
    }

    private sealed class ToyProvider : IBackendProvider
    {
        public string Name { get; init; } = "toy";

        public string Title { get; init; } = "Toy";

        public string? Hardware => "an abacus";

        public bool IsHost => false;

        public IReadOnlyList<BackendDevice> Devices => WhyNone is not null ? [] : [new(this, new Toy(Failure, FirstCall)) { Checks = [new Beads()] }];

        public string? WhyNone { get; init; }

        public IReadOnlyList<TimedShape> TimedShapes =>
        [
            new("four by four", new()
            {
                Batch = 1, QueryHeads = 1, KeyValueHeads = 1, QueryLength = 4, KeyLength = 4, KeyDim = 8, ValueDim = 8,
                QueryType = TensorElementType.Float32, KeyValueType = TensorElementType.Float32, Mask = AttentionMask.Full, BlockSize = null,
            }, Target: 7),
        ];

        public string? TargetNote => "Wishes.";

        public Exception? Failure { get; init; }

        /// <summary>How much longer the first call of a run takes.</summary>
        public TimeSpan FirstCall { get; init; }

        public bool IsFailure { get; init; } = true;

        public BackendInfo Info() => new("ready");

        public bool IsDeviceFailure(Exception exception) => IsFailure && exception is InvalidTimeZoneException;
    }

    private sealed record Beads() : Check("abacus", "beads")
    {
        protected override CheckOutcome RunCore(Backend backend, RunOptions run, Action<string> onKernel) => new("beads", Failure: backend is Toy ? null : "not a toy");
    }

    /// <summary>The processor by another name.</summary>
    private sealed class Toy(Exception? failure, TimeSpan firstCall) : Backend
    {
        public override string Name => "toy";

        public override string Title => "toy";

        public override string Clock => "an hourglass";

        public override void ThrowIfNotSupported(RunOptions run)
        {
        }

        protected override PreparedCall Prepare<TQuery, TKeyValue>(CallInputs call) => new Slow(CpuBackend.Instance.Prepare(call), firstCall);

        protected override AttentionExplanation Explain<TQuery, TKeyValue>(CallSizes sizes, AttentionOptions options, RunOptions run) => failure is null ? CpuBackend.Instance.Explain(sizes, options, run) : throw failure;

        protected override MergeResult Merge<TPartial, TOutput>(MergeInputs inputs) => CpuBackend.Instance.Merge(inputs);

        protected override PreparedCache CreateCache<T>(PagedKeyValueCacheOptions options) => throw new NotSupportedException();
    }

    /// <summary>A call that takes its time at first.</summary>
    private sealed class Slow(PreparedCall call, TimeSpan firstCall) : PreparedCall(call.Call)
    {
        private TimeSpan _wait = firstCall;

        public override LoadedTensor Output => call.Output;

        public override LoadedTensor LogSumExp => call.LogSumExp;

        public override void Poison() => call.Poison();

        public override void Invoke(AttentionOptions options, RunOptions run)
        {
            Thread.Sleep(_wait);
            _wait = TimeSpan.Zero;
            call.Invoke(options, run);
        }

        public override TimeSpan Time(AttentionOptions options, RunOptions run, int calls) => call.Time(options, run, calls);

        protected override void Dispose(bool disposing)
        {
            call.Dispose();
            base.Dispose(disposing);
        }
    }
}
