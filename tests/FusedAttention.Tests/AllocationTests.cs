using System.Numerics.Tensors;
using Xunit;

namespace FusedAttention.Tests;

/// <summary>Tests that measure the whole process run without company.</summary>
[CollectionDefinition(Name, DisableParallelization = true)]
public sealed class AloneDefinition
{
    public const string Name = "alone";
}

/// <summary>In steady state no call allocates a byte on the managed heap, on any thread.</summary>
[Collection(AloneDefinition.Name)]
public sealed class AllocationTests
{
    private const int Heads = 4;
    private const int KeyValueHeads = 2;
    private const int Dim = 64;
    private const int Keys = 300;

    private readonly float[] _query = Numbers(2 * 64 * Heads * Dim);
    private readonly Half[] _key = [.. Numbers(2 * 320 * KeyValueHeads * Dim).Select(x => (Half)x)];
    private readonly Half[] _value = [.. Numbers(2 * 320 * KeyValueHeads * Dim).Select(x => (Half)x)];
    private readonly float[] _output = new float[2 * 64 * Heads * Dim];
    private readonly float[] _logSumExp = new float[2 * Heads * 64];
    private readonly float[] _bias = Numbers(64 * Keys);
    private readonly bool[] _mask = [.. Numbers(2 * 64 * Keys).Select(x => x > -0.8f)];

    [Theory]
    [InlineData(1, 64)]
    [InlineData(1, 1)]
    [InlineData(3, 64)]
    [InlineData(3, 1)]
    [InlineData(-1, 64)]
    public void Dense_calls_allocate_nothing(int threads, int queries)
    {
        var execution = new CpuExecution { MaxDegreeOfParallelism = threads };
        var shape = new AttentionShape(2, queries, Keys, Heads, KeyValueHeads, Dim);
        int[] keyLengths = [Keys, 177];
        Allocations.AssertNone(() =>
        {
            var operands = new AttentionOperands
            {
                KeyLengths = keyLengths,
                Bias = new ReadOnlyTensorSpan<float>(_bias, 0, [queries, Keys], default),
                BooleanMask = new ReadOnlyTensorSpan<bool>(_mask, 0, [2, 1, queries, Keys], default),
                LogSumExp = new TensorSpan<float>(_logSumExp, 0, [2, Heads, queries], default),
            };
            Attention.Forward<float, Half>(_query, _key, _value, _output, shape, Options, operands, execution, TestContext.Current.CancellationToken);
        });
    }

    [Theory]
    [InlineData(1)]
    [InlineData(3)]
    public void Calls_on_tensor_spans_allocate_nothing(int threads)
    {
        var execution = new CpuExecution { MaxDegreeOfParallelism = threads };
        Allocations.AssertNone(() => Attention.Forward(
            new ReadOnlyTensorSpan<float>(_query, [2, 64, Heads, Dim]),
            new ReadOnlyTensorSpan<Half>(_key, 0, [2, Keys, KeyValueHeads, Dim], default),
            new ReadOnlyTensorSpan<Half>(_value, 0, [2, Keys, KeyValueHeads, Dim], default),
            new TensorSpan<float>(_output, [2, 64, Heads, Dim]),
            Options, execution: execution, cancellationToken: TestContext.Current.CancellationToken));
    }

    [Theory]
    [InlineData(1)]
    [InlineData(3)]
    public void Packed_calls_allocate_nothing(int threads)
    {
        var execution = new CpuExecution { MaxDegreeOfParallelism = threads };
        int[] queries = [0, 1, 1, 70, 71, 128];
        int[] keys = [0, 200, 210, 280, 500, 640];
        long[] offsets = [199, 3, 0, 200, 80];
        Allocations.AssertNone(() => Attention.ForwardVariableLength(
            new ReadOnlyTensorSpan<float>(_query, [128, Heads, Dim]),
            new ReadOnlyTensorSpan<Half>(_key, [640, KeyValueHeads, Dim]),
            new ReadOnlyTensorSpan<Half>(_value, [640, KeyValueHeads, Dim]),
            new TensorSpan<float>(_output, [128, Heads, Dim]),
            queries, keys, Options, new AttentionOperands { QueryOffsets = offsets }, execution));
    }

    [Theory]
    [InlineData(1, false)]
    [InlineData(3, false)]
    [InlineData(3, true)]
    public void Paged_calls_allocate_nothing(int threads, bool isRowInvariant)
    {
        AttentionOptions options = Options with { RowInvariant = isRowInvariant };
        var execution = new CpuExecution { MaxDegreeOfParallelism = threads };
        int[] queries = [0, 1, 2, 34];
        int[] contexts = [300, 17, 160];
        int[] tables = [.. Enumerable.Range(0, 20), .. Enumerable.Range(20, 20), .. Enumerable.Range(5, 20)];
        Allocations.AssertNone(() => Attention.ForwardPaged(
            new ReadOnlyTensorSpan<float>(_query, 0, [34, Heads, Dim], default),
            new ReadOnlyTensorSpan<Half>(_key, [40, 16, KeyValueHeads, Dim]),
            new ReadOnlyTensorSpan<Half>(_value, [40, 16, KeyValueHeads, Dim]),
            new TensorSpan<float>(_output, 0, [34, Heads, Dim], default),
            new PagedSequences(queries, contexts, tables, 20), options, execution: execution));
    }

    [Fact]
    public void Changing_shapes_allocate_nothing_once_each_has_been_seen()
    {
        var execution = new CpuExecution { MaxDegreeOfParallelism = 2 };
        Allocations.AssertNone(() =>
        {
            for (int queries = 1; queries <= 64; queries += 21)
            {
                Attention.Forward<float, Half>(_query, _key, _value, _output, new AttentionShape(1, queries, Keys, Heads, KeyValueHeads, Dim), Options, execution: execution);
            }
        });
    }

    private static AttentionOptions Options { get; } = new()
    {
        Mask = AttentionMask.CausalWindow(250),
        AlibiSlopes = AlibiSlopes.ForHeads(Heads),
        SinkLogits = [0.5f, -1, 0, 2],
        SoftCap = 30,
    };

    private static float[] Numbers(int count) => new ProblemGenerator(count).Numbers(count, 1, AttentionElementType.Float32);
}
