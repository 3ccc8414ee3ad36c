using Xunit;
using static FusedAttention.Testing.Refusal;

namespace FusedAttention.Tests;

/// <summary>What packed and paged calls refuse: cumulative lengths, context lengths, block tables, caches.</summary>
public sealed class SequenceArgumentTests
{
    [Fact]
    public void Packed_tensors_have_rank_3_and_agree()
    {
        Of("query", o => Attention.ForwardVariableLength(In(1, 6, 4, 8), In(7, 2, 8), In(7, 2, 8), Out(o, 6, 4, 8), [0, 6], [0, 7]), "[1, 6, 4, 8]");
        Of("key", o => Attention.ForwardVariableLength(In(6, 4, 8), In(1, 7, 2, 8), In(7, 2, 8), Out(o, 6, 4, 8), [0, 6], [0, 7]), "[1, 7, 2, 8]");
        Of("value", o => Attention.ForwardVariableLength(In(6, 4, 8), In(7, 2, 8), In(6, 2, 8), Out(o, 6, 4, 8), [0, 6], [0, 7]), "[6, 2, 8]", "7");
        Of("output", o => Attention.ForwardVariableLength(In(6, 4, 8), In(7, 2, 8), In(7, 2, 8), Out(o, 5, 4, 8), [0, 6], [0, 7]), "[5, 4, 8]", "6");
        Of("key", o => Attention.ForwardVariableLength(In(6, 4, 8), In(7, 3, 8), In(7, 3, 8), Out(o, 6, 4, 8), [0, 6], [0, 7]), "3", "4");
    }

    [Fact]
    public void Cumulative_lengths_ascend_from_0_to_the_total()
    {
        Of("cumulativeQueryLengths", o => Packed(o, [], [0, 7]), "empty");
        Of("cumulativeQueryLengths", o => Packed(o, [1, 6], [0, 7]), "[0] is 1");
        Of("cumulativeQueryLengths", o => Packed(o, [0, 4, 3, 6], [0, 1, 2, 7]), "[2] is 3", "4");
        Of("cumulativeQueryLengths", o => Packed(o, [0, 5], [0, 7]), "5", "6");
        Of("cumulativeQueryLengths", o => Packed(o, [0, 7], [0, 7]), "7", "6");
        Of("cumulativeQueryLengths", o => Packed(o, [0, -1, 6], [0, 1, 7]), "-1");
        Of("cumulativeKeyLengths", o => Packed(o, [0, 6], []), "empty");
        Of("cumulativeKeyLengths", o => Packed(o, [0, 6], [0, 8]), "8", "7");
        Of("cumulativeKeyLengths", o => Packed(o, [0, 3, 6], [0, int.MaxValue, 7]), "7", int.MaxValue.ToString());
        Of("cumulativeKeyLengths", o => Packed(o, [0, 3, 6], [0, 7]), "2", "3");
    }

    [Fact]
    public void Paged_caches_agree()
    {
        var table = new int[] { 1, 2, 3, -1 };
        Of("keyCache", o => Attention.ForwardPaged(In(6, 4, 8), In(9, 2, 8), In(9, 16, 2, 8), Out(o, 6, 4, 8), new([0, 1, 6], [20, 6], table, 2)), "[9, 2, 8]");
        Of("valueCache", o => Attention.ForwardPaged(In(6, 4, 8), In(9, 16, 2, 8), In(8, 16, 2, 8), Out(o, 6, 4, 8), new([0, 1, 6], [20, 6], table, 2)), "[8, 16, 2, 8]", "9");
        Of("valueCache", o => Attention.ForwardPaged(In(6, 4, 8), In(9, 16, 2, 8), In(9, 8, 2, 8), Out(o, 6, 4, 8), new([0, 1, 6], [20, 6], table, 2)), "[9, 8, 2, 8]", "16");
        Of("keyCache", o => Attention.ForwardPaged(In(6, 4, 8), In(9, 16, 3, 8), In(9, 16, 3, 8), Out(o, 6, 4, 8), new([0, 1, 6], [20, 6], table, 2)), "3", "4");
        Of("keyCache", o => Attention.ForwardPaged(In(6, 4, 8), In(9, 16, 2, 7), In(9, 16, 2, 8), Out(o, 6, 4, 8), new([0, 1, 6], [20, 6], table, 2)), "7", "8");
        Of("output", o => Attention.ForwardPaged(In(6, 4, 8), In(9, 16, 2, 8), In(9, 16, 2, 8), Out(o, 6, 4, 9), new([0, 1, 6], [20, 6], table, 2)), "[6, 4, 9]", "8");
    }

    [Fact]
    public void Paged_lengths_and_tables_agree()
    {
        var table = new int[] { 1, 2, 3, -1 };
        Of("sequences", o => Paged(o, new([], [20, 6], table, 2)), "empty");
        Of("sequences", o => Paged(o, new([0, 1, 5], [20, 6], table, 2)), "5", "6");
        Of("sequences", o => Paged(o, new([0, 7, 6], [20, 6], table, 2)), "7");
        Of("sequences", o => Paged(o, new([0, 1, 6], [20], table, 2)), "ContextLengths", "1", "2");
        Of("sequences", o => Paged(o, new([0, 1, 6], [20, -6], table, 2)), "ContextLengths[1]", "-6");
        Of("sequences", o => Paged(o, new([0, 1, 6], [33, 6], table, 2)), "ContextLengths[0]", "33", "32");
        Of("sequences", o => Paged(o, new([0, 1, 6], [int.MaxValue, 6], table, 2)), "ContextLengths[0]", int.MaxValue.ToString());
        Of("sequences", o => Paged(o, new([0, 1, 6], [20, 6], new int[] { 1, 2, 3 }, 2)), "BlockTables", "3", "4");
        Of("sequences", o => Paged(o, new([0, 1, 6], [20, 6], table, 3)), "BlockTables", "4", "6");
        Of("sequences", o => Paged(o, new([0, 1, 6], [20, 6], table, -2)), "-2");
        Of("sequences", o => Attention.ForwardPaged(In(1, 4, 8), In(9, 0, 2, 8), In(9, 0, 2, 8), Out(o, 1, 4, 8), new([0, 1], [1], new int[] { 0 }, 1)), "1", "0");
    }

    [Fact]
    public void Block_ids_that_are_needed_must_exist()
    {
        Of("sequences", o => Paged(o, new([0, 1, 6], [20, 6], new int[] { 1, -1, 3, -1 }, 2)), "-1", "8");
        Of("sequences", o => Paged(o, new([0, 1, 6], [20, 6], new int[] { 1, 9, 3, -1 }, 2)), "9", "8");
        Of("sequences", o => Paged(o, new([0, 1, 6], [20, 6], new int[] { 1, 2, int.MaxValue, -1 }, 2)), int.MaxValue.ToString());
        Of("sequences", o => Paged(o, new([0, 1, 6], [20, 6], new int[] { int.MinValue, 2, 3, -1 }, 2)), int.MinValue.ToString());
        Of("sequences", o => Attention.ForwardPaged(In(1, 4, 8), In(0, 16, 2, 8), In(0, 16, 2, 8), Out(o, 1, 4, 8), new([0, 1], [3], new int[] { 0 }, 1)), "0");
    }

    [Fact]
    public void Block_ids_that_are_not_needed_may_be_anything()
    {
        var output = new float[192];
        foreach (int padding in (int[])[-1, 9, int.MaxValue, int.MinValue])
        {
            // Sequence 1 needs one block only; sequence 2 has no keys; sequence 3 has no queries.
            Attention.ForwardPaged(
                In(6, 4, 8), In(9, 16, 2, 8), In(9, 16, 2, 8), Out(output, 6, 4, 8),
                new([0, 1, 5, 6, 6], [20, 16, 0, 32], new int[] { 1, 2, 3, padding, padding, padding, padding, padding }, 2));

            // A window of 3 keys has passed block 0 of a decoding sequence.
            Attention.ForwardPaged(
                In(1, 4, 8), In(9, 16, 2, 8), In(9, 16, 2, 8), Out(output, 1, 4, 8),
                new([0, 1], [20], new int[] { padding, 2 }, 2), new AttentionOptions { Mask = AttentionMask.CausalWindow(3) });
        }
    }

    private static void Packed(float[] output, ReadOnlySpan<int> queries, ReadOnlySpan<int> keys)
        => Attention.ForwardVariableLength(In(6, 4, 8), In(7, 2, 8), In(7, 2, 8), Out(output, 6, 4, 8), queries, keys);

    private static void Paged(float[] output, PagedSequences sequences)
        => Attention.ForwardPaged(In(6, 4, 8), In(9, 16, 2, 8), In(9, 16, 2, 8), Out(output, 6, 4, 8), sequences);
}
