using FusedAttention.Paging.Ledger;
using Xunit;

namespace FusedAttention.Tests.Paging.Ledger;

public sealed class BlockPoolTests
{
    [Fact]
    public void Blocks_are_handed_out_in_order_and_the_one_freed_last_comes_first()
    {
        var pool = new BlockPool(4);
        Assert.Equal([0, 1, 2], Take(pool, 3));
        pool.Release(0, keep: false);
        pool.Release(2, keep: false);
        Assert.Equal([2, 0, 3], Take(pool, 3));
        Assert.Equal((4, 4, 0, 0), (pool.Total, pool.Used, pool.Available, pool.Kept));
        Assert.Throws<InvalidOperationException>(() => pool.Take(out _));
        Assert.Equal(4, pool.Used);
    }

    [Fact]
    public void A_block_is_used_until_its_last_owner_has_gone()
    {
        var pool = new BlockPool(2);
        int block = pool.Take(out _);
        pool.Share(block);
        pool.Share(block);
        Assert.Equal((3, 1), (pool.Owners(block), pool.Used));
        pool.Release(block, keep: true);
        pool.Release(block, keep: true);
        Assert.Equal((1, 1, 0), (pool.Owners(block), pool.Used, pool.Kept));
        pool.Release(block, keep: true);
        Assert.Equal((0, 0, 2, 1), (pool.Owners(block), pool.Used, pool.Available, pool.Kept));
    }

    [Fact]
    public void Kept_blocks_go_after_free_ones_the_oldest_first_and_sharing_one_uses_it()
    {
        var pool = new BlockPool(5);
        Take(pool, 4);
        foreach (int block in (int[])[2, 0, 3, 1]) pool.Release(block, keep: true);
        pool.Share(3);
        Assert.Equal((1, 1, 4, 3), (pool.Owners(3), pool.Used, pool.Available, pool.Kept));
        Assert.Equal(4, pool.Take(out bool wasKept));
        Assert.False(wasKept);
        foreach (int oldest in (int[])[2, 0, 1])
        {
            Assert.Equal(oldest, pool.Take(out wasKept));
            Assert.True(wasKept);
        }

        Assert.Equal((5, 0, 0), (pool.Used, pool.Available, pool.Kept));
    }

    [Fact]
    public void Kept_blocks_can_be_made_free()
    {
        var pool = new BlockPool(3);
        Take(pool, 3);
        pool.Release(1, keep: true);
        pool.Release(0, keep: true);
        pool.FreeKept();
        Assert.Equal((1, 2, 0), (pool.Used, pool.Available, pool.Kept));
        pool.Take(out bool wasKept);
        Assert.False(wasKept);
    }

    private static int[] Take(BlockPool pool, int count) => [.. Enumerable.Range(0, count).Select(i => pool.Take(out bool _))];
}
