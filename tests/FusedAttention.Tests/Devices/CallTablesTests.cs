using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using FusedAttention.Devices;
using FusedAttention.Problems;
using Xunit;

namespace FusedAttention.Tests.Devices;

/// <summary>Where the tables of a call lie, and what is in them.</summary>
public sealed unsafe class CallTablesTests
{
    [Fact]
    public void Places_are_aligned_apart_and_tables_come_first()
    {
        AttentionProblem problem = Paged(out DevicePlan plan, windowed: false);
        ScratchLayout layout = plan.Scratch;
        (long Start, long Bytes)[] tables =
        [
            (layout.Sequences, 3 * Unsafe.SizeOf<SequenceEntry>()),
            (layout.Items, (plan.ItemCount - plan.Merges.Count) * Unsafe.SizeOf<WorkItem>()),
            (layout.Merges, (long)plan.Merges.Count * Unsafe.SizeOf<WorkItem>()),
            (layout.BlockTables, (3 + 25 + 1) * sizeof(int)),
            (layout.AlibiSlopes, 8 * sizeof(float)),
            (layout.PartialOutputs, plan.PartialRows * problem.ValueDim * sizeof(float)),
            (layout.PartialStatistics, plan.PartialRows * 2 * sizeof(float)),
        ];
        long end = 0;
        foreach ((long start, long bytes) in tables)
        {
            Assert.Equal(0, start % 256);
            Assert.True(start >= end && bytes > 0, $"{bytes} bytes at {start}, behind {end}.");
            end = start + bytes;
        }

        Assert.True(layout.Bytes >= end);
        Assert.Equal(layout.PartialOutputs, layout.TableBytes);

        // What is empty has the place of the first table: nothing is read there, and a buffer may not be bound at its end.
        Assert.Equal(0, layout.SinkLogits);
    }

    [Fact]
    public void Tables_have_what_the_kernels_read()
    {
        AttentionProblem problem = Paged(out DevicePlan plan, windowed: false);
        byte[] bytes = new byte[plan.Scratch.Bytes];
        Array.Fill<byte>(bytes, 0xEE);
        fixed (int* blocks = Blocks)
        fixed (byte* first = bytes)
        {
            for (int s = 0; s < 3; s++) problem.Sequences[s].BlockTable = blocks + (s * 30);
            CallTables.Write(problem, plan, first);
        }

        ReadOnlySpan<SequenceEntry> entries = Table<SequenceEntry>(bytes, plan.Scratch.Sequences, 3);
        ReadOnlySpan<int> ids = Table<int>(bytes, plan.Scratch.BlockTables, 3 + 25 + 1);
        int[] needed = [3, 25, 1];
        for (int s = 0; s < 3; s++)
        {
            Assert.Equal((problem.Sequences[s].QueryLength, problem.Sequences[s].KeyLength, problem.Sequences[s].QueryOffset), (entries[s].QueryLength, entries[s].KeyLength, entries[s].QueryOffset));
            for (int block = 0; block < needed[s]; block++) Assert.Equal(Blocks[(s * 30) + block], ids[(int)entries[s].BlockTableStart + block]);
        }

        WorkItem[] items = Table<WorkItem>(bytes, plan.Scratch.Items, (int)plan.ItemCount - plan.Merges.Count).ToArray();
        Assert.Equal([.. plan.ItemsOf(AttentionKernel.Prefill).Items, .. plan.ItemsOf(AttentionKernel.Decode).Items], items);
        Assert.Equal(plan.Merges.Items.ToArray(), Table<WorkItem>(bytes, plan.Scratch.Merges, plan.Merges.Count).ToArray());
        Assert.Equal(problem.AlibiSlopes.ToArray(), Table<float>(bytes, plan.Scratch.AlibiSlopes, 8).ToArray());
        Assert.All(bytes[(int)plan.Scratch.TableBytes..], static b => Assert.Equal(0xEE, b));
    }

    /// <summary>Entries before the first block that a window leaves are not copied, and not read: they may be garbage.</summary>
    [Fact]
    public void Only_the_blocks_that_are_needed_have_entries()
    {
        AttentionProblem problem = Paged(out DevicePlan plan, windowed: true);
        byte[] bytes = new byte[plan.Scratch.Bytes];
        fixed (int* blocks = Blocks)
        fixed (byte* first = bytes)
        {
            for (int s = 0; s < 3; s++) problem.Sequences[s].BlockTable = blocks + (s * 30);
            CallTables.Write(problem, plan, first);
        }

        // 400 keys in blocks of 16 and a window of 20 before the last position: blocks 23 and 24.
        SequenceEntry entry = Table<SequenceEntry>(bytes, plan.Scratch.Sequences, 3)[1];
        Assert.Equal((23, 25), problem.NeededBlocks(problem.Sequences[1]));
        ReadOnlySpan<int> ids = Table<int>(bytes, plan.Scratch.BlockTables, 3 + 2 + 1);
        Assert.Equal((Blocks[30 + 23], Blocks[30 + 24]), (ids[(int)entry.BlockTableStart + 23], ids[(int)entry.BlockTableStart + 24]));
    }

    private static readonly int[] Blocks = [.. Enumerable.Range(0, 90).Select(static i => 1000 - (7 * i))];

    private static AttentionProblem Paged(out DevicePlan plan, bool windowed)
    {
        AttentionProblem problem = ShapeProblem.Sequences<float, float>(
            new AttentionShape(1, 1, 1, 8, 2, 16), [20, 1, 1], [40, 400, 16], 16,
            new AttentionOptions { Mask = windowed ? AttentionMask.CausalWindow(20) : AttentionMask.Causal, AlibiSlopes = AlibiSlopes.ForHeads(8) });
        plan = new();
        plan.Build(problem, TestTiles.PrefillAndDecode());
        return problem;
    }

    private static ReadOnlySpan<T> Table<T>(byte[] bytes, long start, int count)
        where T : unmanaged
        => MemoryMarshal.Cast<byte, T>(bytes.AsSpan((int)start))[..count];
}
