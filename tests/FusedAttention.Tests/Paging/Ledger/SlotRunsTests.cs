using FusedAttention.Paging.Ledger;
using Xunit;

namespace FusedAttention.Tests.Paging.Ledger;

public sealed class SlotRunsTests
{
    [Fact]
    public void Rows_are_the_last_tokens_of_their_sequences()
    {
        // Blocks of 4: three rows at 3, 4, 5; none; seven at 1 to 7; one at 8.
        int[] tables = [10, 11, -1, 20, -1, -1, 30, 31, -1, 40, 41, 42];
        Assert.Equal(
            [new(0, 10, 3, 1), new(1, 11, 0, 2), new(3, 30, 1, 3), new(6, 31, 0, 4), new(10, 42, 0, 1)],
            All(new SlotRuns([0, 3, 3, 10, 11], [6, 2, 8, 9], tables, 3, 0, 4)));
    }

    [Fact]
    public void An_extract_of_a_table_will_do()
    {
        Assert.Equal([new(5, 7, 2, 2), new(7, 8, 0, 1)], All(new SlotRuns([5, 8], [4001], [7, 8], 2, 999, 4)));
        Assert.Empty(All(new SlotRuns([0], [], [], 0, 0, 4)));
        Assert.Empty(All(new SlotRuns([0, 0], [0], [], 0, 0, 4)));
    }

    private static List<SlotRun> All(SlotRuns runs)
    {
        var list = new List<SlotRun>();
        foreach (SlotRun run in runs) list.Add(run);
        return list;
    }
}
