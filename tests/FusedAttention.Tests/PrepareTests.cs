using System.Diagnostics.Tracing;
using System.Runtime;
using FusedAttention.Diagnostics;
using Xunit;

namespace FusedAttention.Tests;

/// <summary>What a first call would compile is compiled before it.</summary>
[Collection(AloneDefinition.Name)]
public sealed class PrepareTests(ITestOutputHelper output)
{
    private static readonly AttentionOptions Causal = new() { Mask = AttentionMask.Causal, QueryOffset = -7 };

    [Theory]
    [InlineData(512, 512, "prefill")]
    [InlineData(1, 9000, "decode")]
    [InlineData(3, 0, "decode")]
    [InlineData(2, 40, "prefill")]
    public void A_dense_call_rehearses_its_own_kernel(int queries, int keys, string kernel)
    {
        // 128 heads of a group: cut down to one query, they would be decoded.
        var shape = new AttentionShape(3, queries, keys, queries == 2 ? 128 : 4, queries == 2 ? 1 : 2, 16, 24);
        AttentionShape headMajor = shape with { KeyStrides = new(1 << 20, 16, 16 << 10), ValueStrides = new(1 << 20, 24, 24 << 10) };
        OperandKinds all = OperandKinds.BooleanMask | OperandKinds.LogSumExp;
        Assert.Equal(
            [kernel],
            Kernels(() =>
            {
                Attention.Prepare<float, Half>(shape, Causal);
                Attention.Prepare<float, BFloat16>(headMajor, Causal, new() { MaxDegreeOfParallelism = 1 }, all | OperandKinds.BiasBFloat16);
                Attention.Prepare<Half, Half>(shape, null, null, all | OperandKinds.BiasFloat16);
                Attention.Prepare<float, float>(shape, null, null, OperandKinds.BiasFloat32);
            }));
    }

    [Theory]
    [InlineData(null)]
    [InlineData(1)]
    [InlineData(16)]
    [InlineData(int.MaxValue)]
    public void Packed_and_paged_calls_rehearse_each_kind_that_they_have(int? blockSize)
    {
        var shape = new AttentionShape(0, 0, 0, 4, 2, 16, 24);
        OperandKinds all = OperandKinds.BooleanMask | OperandKinds.LogSumExp | OperandKinds.BiasFloat32;
        Assert.Equal(["prefill + decode"], Kernels(() => Attention.Prepare<float, Half>(shape, [1, 0, 512, 1, 30], [300, 5, 900, 700, 30], blockSize, Causal, null, all)));
        Assert.Equal(["decode"], Kernels(() => Attention.Prepare<float, float>(shape, [1], [0], blockSize)));
        Assert.Empty(Kernels(() => Attention.Prepare<float, float>(shape, [], [], blockSize)));
        Assert.Empty(Kernels(() => Attention.Prepare<float, float>(shape, [0], [4], blockSize)));
    }

    [Fact]
    public void What_cannot_be_computed_is_refused()
    {
        Assert.Empty(Kernels(() => Attention.Prepare<float, float>(new AttentionShape(0, 1, 1, 1, 1, 8))));
        Assert.Throws<ArgumentException>(() => Attention.Prepare<float, double>(new AttentionShape(1, 1, 1, 1, 1, 8)));
        Assert.Throws<ArgumentException>("shape", () => Attention.Prepare<float, float>(new AttentionShape(1, 1, 1, 3, 2, 8)));
        Assert.Throws<ArgumentException>("keyLengths", () => Attention.Prepare<float, float>(new AttentionShape(1, 1, 1, 1, 1, 8), [1], []));
        foreach (CpuInstructionSet lacking in Variants.All.Where(static set => !Variants.IsSupported(set)))
            Assert.Throws<PlatformNotSupportedException>(() => Attention.Prepare<float, float>(new AttentionShape(1, 1, 1, 1, 1, 8), execution: new() { InstructionSet = lacking }));
    }

    /// <summary>In a process of its own, which has not compiled a kernel yet.</summary>
    [Fact]
    public void A_prepared_call_compiles_next_to_nothing()
    {
        Assert.SkipWhen(ChildProcess.IsChild, "Children start no children.");
        (_, string text) = ChildProcess.RunClasses([], typeof(FirstCallTests));
        output.WriteLine(text);
        Assert.Contains("methods compiled by the first call: ", text, StringComparison.Ordinal);
    }

    private static string[] Kernels(Action call)
    {
        using var listener = new KernelListener();
        call();
        return [.. listener.Kernels.Distinct(StringComparer.Ordinal)];
    }

    private sealed class KernelListener : EventListener
    {
        private readonly int _thread = Environment.CurrentManagedThreadId;

        public List<string> Kernels { get; } = [];

        protected override void OnEventSourceCreated(EventSource eventSource)
        {
            if (eventSource is AttentionEventSource) EnableEvents(eventSource, EventLevel.Informational, AttentionEventSource.Keywords.Calls);
        }

        protected override void OnEventWritten(EventWrittenEventArgs eventData)
        {
            if (eventData is { EventName: "CallStart", Payload: { Count: > 1 } payload } && Environment.CurrentManagedThreadId == _thread) Kernels.Add((string)payload[1]!);
        }
    }
}

/// <summary>Counts what the runtime compiles. It means something in a process that has done nothing else.</summary>
public sealed class FirstCallTests(ITestOutputHelper output)
{
    [Fact]
    public void A_prepared_decode_and_prefill_compile_next_to_nothing()
    {
        Assert.SkipUnless(ChildProcess.IsChild, "Other tests have compiled the kernels in this process: PrepareTests starts one for this.");
        var execution = new CpuExecution { MaxDegreeOfParallelism = 1 };
        var decode = new AttentionShape(1, 1, 4096, 8, 2, 64);
        var prefill = decode with { QueryLength = 200, KeyLength = 600 };
        float[] query = new float[200 * 8 * 64], result = new float[query.Length];
        Half[] keys = new Half[4096 * 2 * 64], values = new Half[keys.Length];
        Attention.Prepare<float, Half>(decode, null, execution);
        Attention.Prepare<float, Half>(prefill, null, execution);
        long prepared = JitInfo.GetCompiledMethodCount(currentThread: true);
        Attention.Forward<float, Half>(query, keys, values, result, decode, null, default, execution);
        Attention.Forward<float, Half>(query, keys, values, result, prefill, null, default, execution);
        long compiled = JitInfo.GetCompiledMethodCount(currentThread: true) - prepared;
        output.WriteLine($"methods compiled by the first call: {compiled}, by preparing: {prepared}");
        Assert.InRange(compiled, 0, 5);
        Assert.True(prepared > 100, "Preparing has compiled nothing: this proves nothing.");
    }
}
