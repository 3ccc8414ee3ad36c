using FusedAttention.Cpu.Rows;
using FusedAttention.Problems;
using Xunit;

namespace FusedAttention.Tests.Cpu.Rows;

/// <summary>Addresses of keys and values against the formula of each layout, and of blocks against none.</summary>
public sealed unsafe class KeyRowsTests
{
    private const nint Key = 1 << 20;
    private const nint Value = 1 << 24;

    [Theory]
    [InlineData(AttentionElementType.Float32, 4)]
    [InlineData(AttentionElementType.Float16, 2)]
    [InlineData(AttentionElementType.BFloat16, 2)]
    public void Keys_of_a_sequence_lie_a_stride_apart(AttentionElementType type, int size)
    {
        AttentionProblem problem = Problem(type);
        var sequence = new SequenceProblem { KeyStart = 1000, ValueStart = 77, KeyLength = 50 };
        (nint Key, nint Value)[] rows = Locate(problem, sequence, 13, 40);
        for (int j = 13; j < 40; j++) Assert.Equal((Key + ((1000 + (j * 24)) * size), Value + ((77 + (j * 40)) * size)), rows[j - 13]);
    }

    [Theory]
    [InlineData(1)]
    [InlineData(3)]
    [InlineData(16)]
    [InlineData(64)]
    public void Keys_in_blocks_lie_where_the_table_says(int blockSize)
    {
        AttentionProblem problem = Problem(AttentionElementType.Float16);
        problem.BlockSize = blockSize;
        problem.KeyBlockStride = blockSize * 24;
        problem.ValueBlockStride = (blockSize * 40) + 8;
        int[] table = [.. Enumerable.Range(0, 50).Select(i => (i * 7) % 50)];
        fixed (int* blocks = table)
        {
            var sequence = new SequenceProblem { KeyStart = 99, ValueStart = 99, BlockTable = blocks, KeyLength = 50 }; // starts are no part of a paged call
            foreach ((int start, int end) in ((int, int)[])[(0, 50), (13, 40), (16, 32), (49, 50), (31, 33)])
            {
                (nint Key, nint Value)[] rows = Locate(problem, sequence, start, end);
                for (int j = start; j < end; j++)
                {
                    long block = table[j / blockSize], slot = j % blockSize;
                    nint key = (nint)(Key + (((block * problem.KeyBlockStride) + (slot * 24)) * 2));
                    nint value = (nint)(Value + (((block * problem.ValueBlockStride) + (slot * 40)) * 2));
                    Assert.Equal((key, value), rows[j - start]);
                }
            }
        }
    }

    /// <summary>Caches hold more than 2^31 elements: offsets are 64-bit numbers.</summary>
    [Fact]
    public void Offsets_go_beyond_32_bits()
    {
        AttentionProblem problem = Problem(AttentionElementType.Float32);
        problem.KeyTokenStride = 1 << 20;
        problem.ValueTokenStride = 1 << 21;
        var sequence = new SequenceProblem { KeyLength = 100_000 };
        Assert.Equal([(Key + (99_999L * (4L << 20)), Value + (99_999L * (4L << 21)))], Locate(problem, sequence, 99_999, 100_000).Select(row => ((long)row.Key, (long)row.Value)));

        problem.BlockSize = 16;
        problem.KeyBlockStride = 1 << 24;
        problem.ValueBlockStride = 1 << 25;
        int block = 50_000;
        sequence.BlockTable = &block;
        Assert.Equal([(Key + (50_000L * (4L << 24)), Value + (50_000L * (4L << 25)))], Locate(problem, sequence, 0, 1).Select(row => ((long)row.Key, (long)row.Value)));
    }

    private static AttentionProblem Problem(AttentionElementType type) => new() { KeyValueType = type, Key = (byte*)Key, Value = (byte*)Value, KeyTokenStride = 24, ValueTokenStride = 40 };

    /// <summary>Exactly as many addresses as there are keys are written.</summary>
    private static (nint Key, nint Value)[] Locate(AttentionProblem problem, in SequenceProblem sequence, int start, int end)
    {
        using var keys = new TestMemory<nint>(end - start, Placement.Margins, 0);
        using var values = new TestMemory<nint>(end - start, Placement.Margins, 0);
        KeyRows.Locate(problem, sequence, start, end, keys.Pointer, values.Pointer);
        keys.AssertMarginsUntouched("keys");
        values.AssertMarginsUntouched("values");
        return [.. keys.Span.ToArray().Zip(values.Span.ToArray())];
    }
}
