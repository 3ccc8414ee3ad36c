using System.Diagnostics.Tracing;
using System.Globalization;
using FusedAttention.Cpu.MachineCode;
using FusedAttention.Diagnostics;
using Xunit;

namespace FusedAttention.Tests.Cpu.MachineCode;

/// <summary>Whether machine code may run, what is said where it may not, and who is told.</summary>
[Collection(AloneDefinition.Name)]
public sealed class CodeHostTests
{
    private static bool RunsHere => System.Runtime.Intrinsics.X86.X86Base.X64.IsSupported && ExecutableMemory.OfThisSystem.Length > 0;

    [Fact]
    public void Every_refusal_is_told()
    {
        Assert.SkipUnless(System.Runtime.Intrinsics.X86.X86Base.X64.IsSupported, "Not an x86-64 process.");
        var host = new CodeHost([new Refusing("the first way", "no memory"), new Refusing("the second way", "a policy")], NoVariables);
        Assert.False(host.IsAvailable);
        Assert.Equal("the system refuses the first way (no memory) and the second way (a policy)", host.State);
        Assert.Equal(default, host.Features);
        Assert.Null(host.Compile(EnabledState.Emit(CallingConvention.Current)));

        Assert.False(new CodeHost([], NoVariables).IsAvailable);
    }

    [Fact]
    public void The_second_way_serves_where_the_first_is_refused()
    {
        Assert.SkipUnless(RunsHere, "No machine code here.");
        ExecutableMemory last = ExecutableMemory.OfThisSystem[^1];
        var host = new CodeHost([new Refusing("the first way", "a policy"), last], NoVariables);
        Assert.Equal(last.Name, host.State);
        Assert.Equal(CodeHost.Current.Features, host.Features);
        Assert.NotNull(host.Compile(EnabledState.Emit(CallingConvention.Current)));
    }

    [Fact]
    public void A_kernel_that_finds_no_memory_later_is_none()
    {
        Assert.SkipUnless(RunsHere, "No machine code here.");
        var memory = new Refusing("memory for one", "no memory", ExecutableMemory.OfThisSystem[0]);
        var host = new CodeHost([memory], NoVariables);
        Assert.True(host.IsAvailable);
        Assert.Null(host.Compile(EnabledState.Emit(CallingConvention.Current)));
    }

    /// <summary>On this machine, from another source: what Linux says of the processor.</summary>
    [Fact]
    public void The_processor_has_what_the_system_says_it_has()
    {
        Assert.SkipUnless(RunsHere && OperatingSystem.IsLinux(), "What the system says is read from /proc.");
        string[] flags = File.ReadLines("/proc/cpuinfo").First(line => line.StartsWith("flags", StringComparison.Ordinal)).Split(' ');
        ProcessorFeatures features = CodeHost.Current.Features;
        Assert.Equal(flags.Contains("f16c", StringComparer.Ordinal), features.HasF16C);
        Assert.Equal(flags.Contains("avx512_vnni", StringComparer.Ordinal), features.HasAvx512Vnni);
        Assert.Equal(flags.Contains("avx_vnni", StringComparer.Ordinal), features.HasAvxVnni);
        Assert.Equal(flags.Contains("avx512_bf16", StringComparer.Ordinal), features.HasAvx512BFloat16);
        Assert.Equal(flags.Contains("amx_bf16", StringComparer.Ordinal), features.HasTilesOfBFloat16);
    }

    [Theory]
    [InlineData("1", true)]
    [InlineData("3", true)]
    [InlineData("2", false)]
    [InlineData(null, false)]
    public void Profilers_are_told_of_kernels_where_the_runtime_tells_them(string? enabled, bool told)
    {
        Assert.SkipUnless(RunsHere && OperatingSystem.IsLinux(), "Profiles of perf are Linux's.");
        using var folder = new TemporaryFolder();
        string path = Path.Combine(folder.Path, $"perf-{Environment.ProcessId}.map");
        File.WriteAllText(path, "1000 10 something of the runtime's\n");
        var host = new CodeHost(ExecutableMemory.OfThisSystem, name => name switch { "DOTNET_PerfMapEnabled" => enabled, "DOTNET_PerfMapJitDumpPath" => folder.Path, _ => null });
        CompiledKernel kernel = host.Compile(EnabledState.Emit(CallingConvention.Current))!;
        string line = string.Create(CultureInfo.InvariantCulture, $"{kernel.Entry:x} {kernel.Bytes:x} enabled state\n");
        Assert.Equal($"1000 10 something of the runtime's\n{(told ? line : "")}", File.ReadAllText(path));
    }

    /// <summary>The runtime writes to the same file where it left off, over lines that others have appended.</summary>
    [Fact]
    public void Perf_is_told_again_what_the_runtime_writes_over()
    {
        Assert.SkipUnless(RunsHere && OperatingSystem.IsLinux(), "perf is Linux's.");
        using var folder = new TemporaryFolder();
        string path = Path.Combine(folder.Path, $"perf-{Environment.ProcessId}.map");
        using var runtime = new FileStream(path, FileMode.Create, FileAccess.Write, FileShare.ReadWrite, bufferSize: 0);
        runtime.Write("1000 10 first\n"u8);
        var host = new CodeHost(ExecutableMemory.OfThisSystem, name => name switch { "DOTNET_PerfMapEnabled" => "1", "DOTNET_PerfMapJitDumpPath" => folder.Path, _ => null });
        CompiledKernel kernel = host.Compile(EnabledState.Emit(CallingConvention.Current))!;
        string line = string.Create(CultureInfo.InvariantCulture, $"{kernel.Entry:x} {kernel.Bytes:x} enabled state");
        Assert.Contains(line, File.ReadAllLines(path), StringComparer.Ordinal);
        runtime.Write("2000 10 a name that is as long as any other of the runtime's\n"u8);
        Assert.DoesNotContain(line, File.ReadAllLines(path), StringComparer.Ordinal);
        host.TellProfilersAgain();
        runtime.Write("3000 10 a method of the process's end\n"u8);
        string[] told = [.. File.ReadAllLines(path).Where(static told => told.Length > 0)];
        Assert.Equal(["1000 10 first", "2000 10 a name that is as long as any other of the runtime's", "3000 10 a method of the process's end", line], told);
    }

    [Fact]
    public void Listeners_are_told_at_once_and_those_who_come_later_when_they_come()
    {
        using var early = new StateListener();
        _ = new CodeHost([new Refusing("a way", "a policy")], NoVariables);
        using (var late = new StateListener())
        {
            Assert.Contains(late.States, state => state.StartsWith("False ", StringComparison.Ordinal));
            Assert.Equal(late.States[^1], early.States[^1]);
        }

        // Tiles are a question of their own, asked later.
        if (CodeHost.Current.IsAvailable)
        {
            var host = new CodeHost(ExecutableMemory.OfThisSystem, NoVariables);
            Assert.DoesNotContain("tiles", early.States[^1], StringComparison.Ordinal);
            string expected = host.TilesRefusal is { } refusal ? $"True {host.State}, without tiles: {refusal}" : $"True {host.State}, with tiles";
            Assert.Contains(early.States, state => string.Equals(state, expected, StringComparison.Ordinal));
        }

        // What other tests find is the state of the process again.
        AttentionEventSource.Log.SetMachineCode(CodeHost.Current.IsAvailable, CodeHost.Current.State);
        Assert.Equal($"{CodeHost.Current.IsAvailable} {CodeHost.Current.State}", early.States[^1]);
    }

    private static string? NoVariables(string name) => null;

    /// <summary>Refuses, after it has allowed one piece of code if it has where to.</summary>
    private sealed class Refusing(string name, string reason, ExecutableMemory? first = null) : ExecutableMemory
    {
        private ExecutableMemory? _first = first;

        public override string Name => name;

        public override bool TryPublish(ReadOnlySpan<byte> code, out nint address, out string refusal)
        {
            if (_first is { } memory)
            {
                _first = null;
                return memory.TryPublish(code, out address, out refusal);
            }

            address = 0;
            refusal = reason;
            return false;
        }
    }

    private sealed class StateListener : EventListener
    {
        public List<string> States { get; } = [];

        protected override void OnEventSourceCreated(EventSource eventSource)
        {
            if (eventSource is AttentionEventSource) EnableEvents(eventSource, EventLevel.Informational, AttentionEventSource.Keywords.MachineCode);
        }

        protected override void OnEventWritten(EventWrittenEventArgs eventData)
        {
            if (eventData is { EventName: "MachineCode", Payload: [var available, string state] }) States.Add($"{Convert.ToBoolean(available)} {state}");
        }
    }
}
