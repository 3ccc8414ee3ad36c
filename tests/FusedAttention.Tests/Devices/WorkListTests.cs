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
            WorkItem[] added = [.. Enumerable.Range(0, count).Select(i => new WorkItem { Sequence = i, FirstRow = 5, EndRow = 7, EndKey = random.Next(0, 1000) })];
            list.Clear(costOfPair: 3);
            foreach (WorkItem item in added) list.Add(item);
            list.Sort();
            Assert.Equal(added.Select(static item => item.Sequence), list.Items.ToArray().Select(static item => item.Sequence).Order());
            Assert.Equal(added.Sum(static item => 6.0 * item.EndKey), list.Cost);
            int least = int.MaxValue, step = count == 0 ? 0 : (added.Max(static item => item.EndKey) + 62) / 63;
            for (int i = 0; i < list.Count; i++)
            {
                int keys = list.Items[i].EndKey;
                Assert.True(keys <= (long)least + step, $"{keys} comes behind {least}, which is shorter by more than {step}.");
                Assert.Equal(6.0 * keys, list.CostOf(i));
                least = Math.Min(least, keys);
            }
        }
    }

    [Fact]
    public void Items_of_one_length_stay_in_order()
    {
        WorkList list = ListOf(static i => i % 2 == 0 ? 10 : 1000);
        list.Sort();
        Assert.Equal([.. Enumerable.Range(0, 100).Select(static i => (2 * i) + 1), .. Enumerable.Range(0, 100).Select(static i => 2 * i)], list.Items.ToArray().Select(static item => item.Sequence));
    }

    /// <summary>The splits of a decode step: three whole ones and a shorter one, over and over.</summary>
    [Fact]
    public void Items_of_about_one_length_are_left_alone()
    {
        WorkList list = ListOf(static i => i % 4 == 3 ? 100 : 256);
        list.Sort();
        Assert.Equal(Enumerable.Range(0, 200), list.Items.ToArray().Select(static item => item.Sequence));
    }

    private static WorkList ListOf(Func<int, int> keys)
    {
        var list = new WorkList();
        list.Clear(costOfPair: 1);
        for (int i = 0; i < 200; i++) list.Add(new() { Sequence = i, EndRow = 4, EndKey = keys(i) });
        return list;
    }
}
