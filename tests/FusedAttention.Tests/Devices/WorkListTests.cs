using FusedAttention.Devices;
using Xunit;

namespace FusedAttention.Tests.Devices;

public sealed class WorkListTests
{
    [Fact]
    public void Long_items_come_first_and_none_is_lost()
    {
        var random = new Random(5);
        var list = new WorkList();
        foreach (int count in (int[])[0, 1, 7, 300, 40])
        {
            WorkItem[] added = [.. Enumerable.Range(0, count).Select(i => new WorkItem { Sequence = i, EndKey = random.Next(0, 1000) })];
            list.Clear();
            foreach (WorkItem item in added) list.Add(item, item.EndKey);
            list.Sort();
            Assert.Equal(count, list.Count);
            Assert.Equal(added.Select(static item => item.Sequence), list.Items.ToArray().Select(static item => item.Sequence).Order());
            Assert.Equal(list.Items.ToArray().Select(static item => (double)item.EndKey), list.Costs.ToArray());
            Assert.Equal(list.Costs.ToArray().Sum(), list.Cost);
            double least = double.PositiveInfinity;
            double step = count == 0 ? 0 : list.Costs.ToArray().Max() / 63;
            foreach (double cost in list.Costs)
            {
                Assert.True(cost <= least + step, $"{cost} comes behind {least}, which is shorter by more than {step}.");
                least = Math.Min(least, cost);
            }
        }
    }

    [Fact]
    public void Items_of_one_length_stay_in_order()
    {
        var list = new WorkList();
        for (int i = 0; i < 200; i++) list.Add(new() { Sequence = i }, i % 2 == 0 ? 10 : 1000);
        list.Sort();
        Assert.Equal([.. Enumerable.Range(0, 100).Select(static i => (2 * i) + 1), .. Enumerable.Range(0, 100).Select(static i => 2 * i)], list.Items.ToArray().Select(static item => item.Sequence));
    }
}
