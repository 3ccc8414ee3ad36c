using System.Diagnostics.Tracing;
using System.Numerics.Tensors;
using System.Runtime.InteropServices;
using FusedAttention.Diagnostics;
using Xunit;

namespace FusedAttention.Tests;

/// <summary>How a merge is computed: on several threads, until its token is cancelled, under the eyes of listeners.</summary>
[Collection(AloneDefinition.Name)]
public sealed class MergeExecutionTests
{
    private static readonly CpuExecution OneThread = new() { MaxDegreeOfParallelism = 1 };

    [Fact]
    public void Threads_and_instruction_sets_change_no_bit()
    {
        AssertSame<float, float>();
        AssertSame<Half, Half>();
        AssertSame<BFloat16, BFloat16>();
        AssertSame<float, Half>();
        AssertSame<Half, float>();
        AssertSame<BFloat16, float>();

        static void AssertSame<TPartial, TOutput>()
            where TPartial : unmanaged
            where TOutput : unmanaged
        {
            // Some 60 items, whose rows begin within a query and end with a short item; and rows of more than one item's elements.
            foreach ((int parts, int batch, int queries, int heads, int dim) in new[] { (3, 2, 397, 3, 131), (7, 1, 5, 1, 3001), (2, 1, 9001, 5, 0) })
            {
                var generator = new ProblemGenerator(parts + dim);
                TPartial[] partials = Elements.FromAll<TPartial>(generator.Numbers(parts * batch * queries * heads * dim, 1, Elements.TypeOf<TPartial>()));
                float[] lses = generator.Numbers(parts * batch * heads * queries, 4, AttentionElementType.Float32), sinks = generator.Numbers(heads, 3, AttentionElementType.Float32);
                for (int i = 0; i < lses.Length; i += 5) lses[i] = float.NegativeInfinity;
                (TOutput[] expected, float[] expectedLse) = Run(OneThread with { InstructionSet = CpuInstructionSet.Scalar });
                Assert.DoesNotContain(float.NaN, expectedLse);
                foreach (CpuInstructionSet instructionSet in Enum.GetValues<CpuInstructionSet>().Where(Variants.IsSupported))
                {
                    foreach (int threads in (int[])[1, 2, -1])
                    {
                        (TOutput[] output, float[] lse) = Run(new() { InstructionSet = instructionSet, MaxDegreeOfParallelism = threads });
                        string how = $"{typeof(TPartial).Name} to {typeof(TOutput).Name}, dim {dim}, {instructionSet}, {threads} threads";
                        Assert.True(MemoryMarshal.AsBytes<TOutput>(output).SequenceEqual(MemoryMarshal.AsBytes<TOutput>(expected)), how);
                        Assert.True(MemoryMarshal.AsBytes<float>(lse).SequenceEqual(MemoryMarshal.AsBytes<float>(expectedLse)), how);
                    }
                }

                (TOutput[] Output, float[] LogSumExp) Run(CpuExecution execution)
                {
                    var output = new TOutput[batch * queries * heads * dim];
                    var lse = new float[batch * heads * queries];
                    lse.AsSpan().Fill(float.NaN);
                    Attention.Merge(
                        new ReadOnlyTensorSpan<TPartial>(partials, [parts, batch, queries, heads, dim]), new ReadOnlyTensorSpan<float>(lses, [parts, batch, heads, queries]),
                        new TensorSpan<TOutput>(output, [batch, queries, heads, dim]), new TensorSpan<float>(lse, [batch, heads, queries]), sinks, execution);
                    return (output, lse);
                }
            }
        }
    }

    [Fact]
    public void An_instruction_set_that_the_machine_lacks_is_refused()
    {
        foreach (CpuInstructionSet lacking in Enum.GetValues<CpuInstructionSet>().Where(set => !Variants.IsSupported(set)))
            Assert.Throws<PlatformNotSupportedException>(() => Merge(new float[4], new() { InstructionSet = lacking }));
        Assert.Throws<ArgumentException>("instructionSet", () => Merge(new float[4], new() { InstructionSet = (CpuInstructionSet)99 }));
    }

    [Fact]
    public void A_token_cancelled_before_the_call_stops_it()
    {
        var token = new CancellationToken(canceled: true);
        float[] output = [7, 7, 7, 7];
        Assert.Equal(token, Assert.ThrowsAny<OperationCanceledException>(() => Merge(output, null, token)).CancellationToken);
        Assert.Equal([7, 7, 7, 7], output);
        Merge(output, null, CancellationToken.None);
        Assert.Equal([1, 1, 1, 1], output);
    }

    /// <summary>Cancelled when the first row is there: the last one, some hundred milliseconds later, is never written.</summary>
    [Theory]
    [InlineData(1)]
    [InlineData(-1)]
    public void A_token_cancelled_during_the_call_stops_it(int threads)
    {
        const int Parts = 1024, Rows = 8192, Dim = 128;
        float[] part = new float[Dim], output = new float[Rows * Dim];
        part.AsSpan().Fill(1);
        output.AsSpan().Fill(float.NaN);
        using var source = new CancellationTokenSource();
        BackgroundThread canceller = BackgroundThread.Start(() =>
        {
            while (float.IsNaN(Volatile.Read(ref output[0]))) Thread.Sleep(0);
            source.Cancel();
        });

        // Every part and every row is the same memory.
        var error = Assert.ThrowsAny<OperationCanceledException>(() => Attention.Merge(
            new ReadOnlyTensorSpan<float>(part, [Parts, Rows, 1, Dim], [0, 0, 0, 1]), new ReadOnlyTensorSpan<float>(new float[1], [Parts, 1, Rows], [0, 0, 0]),
            new TensorSpan<float>(output, [Rows, 1, Dim]), default, default, new() { MaxDegreeOfParallelism = threads }, source.Token));
        canceller.Join();
        Assert.Equal(source.Token, error.CancellationToken);
        Assert.True(float.IsNaN(output[^1]));
    }

    [Fact]
    public void Listeners_see_a_merge_begin_and_end()
    {
        using var source = new CancellationTokenSource();
        using var listener = new MergeListener();
        Attention.Merge(
            new ReadOnlyTensorSpan<float>(new float[2 * 3 * 5 * 4 * 6], [2, 3, 5, 4, 6]), new ReadOnlyTensorSpan<float>(new float[2 * 3 * 4 * 5], [2, 3, 4, 5]),
            new TensorSpan<float>(new float[3 * 5 * 4 * 6], [3, 5, 4, 6]));
        listener.Started = source.Cancel;
        Assert.ThrowsAny<OperationCanceledException>(() => Merge(new float[4], null, source.Token));

        Assert.Equal(["CallStart", "CallStop", "CallStart", "CallStop"], [.. listener.Events.Select(e => e.Name)]);
        Assert.Equal(["cpu", "merge", 15L, 0L, 4, 6], listener.Events[0].Payload);
        Assert.Equal(["cpu", "merge", 15L, 0L, 4, 6], listener.Events[1].Payload[..6]);
        Assert.Equal([0.0, ""], listener.Events[1].Payload[7..]);
        Assert.Equal(["cpu", "merge", 1L, 0L, 1, 4], listener.Events[2].Payload);
        Assert.Equal("System.OperationCanceledException", listener.Events[3].Payload[8]);
    }

    /// <summary>One that the caller does alone, and one of 8 items.</summary>
    [Theory]
    [InlineData(2)]
    [InlineData(50)]
    public void Merging_allocates_nothing(int queries)
    {
        var parts = new float[5 * queries * 4 * 128];
        var lses = new float[5 * queries * 4];
        var output = new float[queries * 4 * 128];
        Call();
        long before = GC.GetAllocatedBytesForCurrentThread();
        Call();
        Assert.Equal(0, GC.GetAllocatedBytesForCurrentThread() - before);

        void Call() => Attention.Merge(
            new ReadOnlyTensorSpan<float>(parts, [5, queries, 4, 128]), new ReadOnlyTensorSpan<float>(lses, [5, 4, queries]), new TensorSpan<float>(output, [queries, 4, 128]), default, [1, 2, 3, 4]);
    }

    /// <summary>Two parts of ones make a row of ones.</summary>
    private static void Merge(float[] output, CpuExecution? execution, CancellationToken cancellationToken = default) => Attention.Merge(
        Tensor.Create([1f, 1, 1, 1, 1, 1, 1, 1], [2, 1, 1, 4]), Tensor.Create([0f, 0], [2, 1, 1]), Tensor.Create(output, [1, 1, 4]), null, default, execution, cancellationToken);

    private sealed class MergeListener : EventListener
    {
        public List<(string Name, object?[] Payload)> Events { get; } = [];

        public Action? Started { get; set; }

        protected override void OnEventSourceCreated(EventSource eventSource)
        {
            if (eventSource is AttentionEventSource) EnableEvents(eventSource, EventLevel.Informational, AttentionEventSource.Keywords.Calls);
        }

        protected override void OnEventWritten(EventWrittenEventArgs eventData)
        {
            if (eventData.Payload is not { Count: > 1 } payload || !Equals(payload[1], "merge")) return;
            Events.Add((eventData.EventName ?? "", [.. payload]));
            if (eventData.EventName is "CallStart") Started?.Invoke();
        }
    }
}
