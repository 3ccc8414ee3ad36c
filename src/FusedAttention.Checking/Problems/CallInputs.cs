using FusedAttention.Checking.Formats;

namespace FusedAttention.Checking.Problems;

/// <summary>How the sequences of a call lie in memory.</summary>
public enum SequenceLayout
{
    Dense,
    VariableLength,
    Paged,
}

/// <summary>One sequence of a call: its first query row among all rows of the call, its query tokens and its keys.</summary>
public readonly record struct CallSequence(int Index, int FirstQuery, int Queries, int Keys);

/// <summary>
/// The inputs of one attention call, from files or from a <see cref="CallRecipe"/>: the one description from which both the library's call and the naive oracle's problems are made.
/// </summary>
public sealed class CallInputs
{
    public SequenceLayout Layout { get; init; }

    /// <summary>Dense <c>[batch, queries, heads, dim]</c> or <c>[queries, heads, dim]</c>; otherwise <c>[total queries, heads, dim]</c>.</summary>
    public required LoadedTensor Query { get; init; }

    /// <summary>Keys of the rank of <see cref="Query"/>, or a cache <c>[blocks, block size, key/value heads, dim]</c>.</summary>
    public required LoadedTensor Key { get; init; }

    /// <summary>Values, laid out as <see cref="Key"/>.</summary>
    public required LoadedTensor Value { get; init; }

    /// <summary>What 8-bit keys are multiplied with, broadcast against <see cref="Key"/> without its last dimension; null for 1.</summary>
    public LoadedTensor? KeyScale { get; init; }

    /// <summary>The same for <see cref="Value"/>.</summary>
    public LoadedTensor? ValueScale { get; init; }

    public LoadedTensor? Mask { get; init; }

    public LoadedTensor? Bias { get; init; }

    /// <summary>Dense calls: valid keys of each batch row; null for all.</summary>
    public int[]? KeyLengths { get; init; }

    public int[] CumulativeQueryLengths { get; init; } = [];

    public int[] CumulativeKeyLengths { get; init; } = [];

    public int[] ContextLengths { get; init; } = [];

    public int[] BlockTables { get; init; } = [];

    public int MaxBlocksPerSequence { get; init; }

    public required AttentionOptions Options { get; init; }

    /// <summary>Batch rows of a dense call; 1 for the others, whose queries are all in one row.</summary>
    public int Batch => Layout == SequenceLayout.Dense && Query.Rank == 4 ? (int)Query.Shape[0] : 1;

    /// <summary>Query rows of a batch row.</summary>
    public int QueryLength => (int)Query.Shape[^3];

    /// <summary>Keys of a batch row of a dense call.</summary>
    public int KeyLength => (int)Key.Shape[^3];

    public int Heads => (int)Query.Shape[^2];

    public int KeyValueHeads => (int)Key.Shape[^2];

    public int KeyDim => (int)Query.Shape[^1];

    public int ValueDim => (int)Value.Shape[^1] * Value.ElementType.Numbers();

    public int BlockSize => (int)Key.Shape[1];

    public int SequenceCount => Layout == SequenceLayout.Dense ? Batch : Math.Max(0, CumulativeQueryLengths.Length - 1);

    /// <summary>The shape of the output: that of the query with the value's last dimension.</summary>
    public long[] OutputShape => [.. Query.Shape[..^1], ValueDim];

    /// <summary>The shape of the log-sum-exp: <c>[batch, heads, queries]</c> or <c>[heads, queries]</c>.</summary>
    public long[] LogSumExpShape => Query.Rank == 4 ? [Batch, Heads, QueryLength] : [Heads, QueryLength];

    public CallSequence Sequence(int index) => Layout switch
    {
        SequenceLayout.Dense => new(index, index * QueryLength, QueryLength, KeyLengths?[index] ?? KeyLength),
        SequenceLayout.VariableLength => Packed(index, CumulativeKeyLengths[index + 1] - CumulativeKeyLengths[index]),
        _ => Packed(index, ContextLengths[index]),
    };

    /// <summary>Where the log-sum-exp of a row stands.</summary>
    public int StatisticIndex(int queryRow, int head) => ((((queryRow / QueryLength) * Heads) + head) * QueryLength) + (queryRow % QueryLength);

    /// <summary>Where the log-sum-exp of the row stands that owns an element of the output.</summary>
    public int StatisticIndexOfOutput(int element) => StatisticIndex(element / (Heads * ValueDim), element / ValueDim % Heads);

    /// <summary>Key (or value) token <paramref name="key"/> of a sequence, as an index into all tokens of the tensor.</summary>
    public int KeyToken(int sequence, int key) => Layout switch
    {
        SequenceLayout.Dense => (sequence * KeyLength) + key,
        SequenceLayout.VariableLength => CumulativeKeyLengths[sequence] + key,
        _ => (BlockTables[(sequence * MaxBlocksPerSequence) + (key / BlockSize)] * BlockSize) + (key % BlockSize),
    };

    private CallSequence Packed(int index, int keys)
        => new(index, CumulativeQueryLengths[index], CumulativeQueryLengths[index + 1] - CumulativeQueryLengths[index], keys);
}
