using System.Runtime.InteropServices;
using FusedAttention.Cpu.Memory;
using Xunit;

namespace FusedAttention.Tests.Cpu.Memory;

/// <summary>Working memory: pieces that begin on cache lines and do not meet; blocks that come back.</summary>
[Collection(AloneDefinition.Name)]
public sealed unsafe class ScratchMemoryTests
{
    /// <summary>The pool's room; see <see cref="ScratchPool"/>.</summary>
    private static readonly int Room = Math.Max(4, 2 * Environment.ProcessorCount);

    [Fact]
    public void Pieces_begin_on_cache_lines_and_do_not_meet()
    {
        byte* start = (byte*)(1 << 20);
        var memory = new ScratchMemory(start);
        byte* end = start;
        foreach (int count in (int[])[1, 63, 64, 65, 0, 7, 1000])
        {
            byte* bytes = memory.Take<byte>(count);
            double* doubles = memory.Take<double>(count);
            foreach ((nint piece, long size) in ((nint, long)[])[((nint)bytes, count), ((nint)doubles, 8L * count)])
            {
                Assert.Equal(0, piece % 64);
                Assert.True(piece >= (nint)end && piece < (nint)end + 64, $"A piece begins at {piece}, the one before it ends at {(nint)end}.");
                end = (byte*)piece + size;
            }
        }

        Assert.InRange(memory.Used, end - start, end - start + 63);
    }

    [Fact]
    public void Without_memory_it_counts_the_same()
    {
        var real = new ScratchMemory((byte*)(1 << 20));
        var counting = new ScratchMemory(null);
        foreach (long count in (long[])[3, 17, 1L << 33, 0, 5])
        {
            real.Take<float>(count);
            counting.Take<float>(count);
        }

        Assert.Equal(real.Used, counting.Used);
    }

    [Theory]
    [InlineData(1)]
    [InlineData(65536)]
    [InlineData(65537)]
    [InlineData(1_000_000)]
    public void A_block_is_large_enough_and_begins_on_a_page(long bytes)
    {
        (nint Start, long Bytes) block = ScratchPool.Rent(bytes);
        Assert.True(block.Bytes >= bytes, $"{block.Bytes} bytes for {bytes}.");
        Assert.Equal(0, block.Start % 4096);
        new Span<byte>((void*)block.Start, (int)bytes).Fill(1);
        ScratchPool.Return(block);
        // What was returned last is what comes next: it is in the caches.
        Assert.Equal(block, ScratchPool.Rent(bytes));
        ScratchPool.Return(block);
    }

    [Fact]
    public void Blocks_that_are_out_do_not_meet()
    {
        (nint Start, long Bytes)[] blocks = [.. Enumerable.Range(1, 2 * Room).Select(i => ScratchPool.Rent(i * 5000L))];
        (nint Start, long Bytes)[] ordered = [.. blocks.OrderBy(block => block.Start)];
        for (int i = 1; i < ordered.Length; i++) Assert.True(ordered[i - 1].Start + ordered[i - 1].Bytes <= ordered[i].Start, $"Block {i} begins inside the one before it.");
        foreach ((nint Start, long Bytes) block in blocks) ScratchPool.Return(block);
    }

    [Fact]
    public void A_full_pool_keeps_its_largest_blocks()
    {
        // More than the pool holds, so it is empty now; what is rented beyond that is new.
        (nint Start, long Bytes)[] blocks = [.. Enumerable.Range(0, Room + 1).Select(_ => ScratchPool.Rent(1))];
        (nint Start, long Bytes) large = ScratchPool.Rent(2 * blocks.Max(block => block.Bytes));
        foreach ((nint Start, long Bytes) block in blocks) ScratchPool.Return(block);
        ScratchPool.Return(large);
        // Had the pool given it back to the system, this would take its place.
        void* instead = NativeMemory.AlignedAlloc((nuint)large.Bytes, 4096);
        (nint Start, long Bytes) again = ScratchPool.Rent(large.Bytes);
        NativeMemory.AlignedFree(instead);
        ScratchPool.Return(again);
        Assert.Equal(large, again);
    }

    [Fact]
    public void No_block_is_nothing_to_return()
    {
        (nint Start, long Bytes) block = ScratchPool.Rent(1);
        ScratchPool.Return(block);
        ScratchPool.Return(default);
        Assert.Equal(block, ScratchPool.Rent(1));
        ScratchPool.Return(block);
    }
}
