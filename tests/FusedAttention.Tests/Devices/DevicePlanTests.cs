using System.Runtime.CompilerServices;
using FusedAttention.Devices;
using FusedAttention.Problems;
using Xunit;

namespace FusedAttention.Tests.Devices;

public sealed class DevicePlanTests
{
    [Fact]
    public void Sequences_get_their_kernel_by_their_own_rows()
    {
        // Group 4: 1 query, 4 queries and 5 queries are 4, 16 and 20 rows.
        DevicePlan plan = Plan([1, 4, 5, 0], [100, 100, 100, 100], TestTiles.PrefillAndDecode());
        Assert.Equal("prefill + decode", plan.KernelName);
        Assert.Equal([2], Sequences(plan.ItemsOf(AttentionKernel.Prefill)));
        Assert.Equal([0, 1], Sequences(plan.ItemsOf(AttentionKernel.Decode)));
        Assert.Equal((1, 2), (plan.ItemsOf(AttentionKernel.Prefill).Sequences, plan.ItemsOf(AttentionKernel.Decode).Sequences));
        Assert.Equal(0, plan.ItemsOf(AttentionKernel.Plain).Count);
    }

    /// <summary>Every row sees every key that it may, once; partial results of different items do not meet; a merge covers all rows of what was split.</summary>
    [Theory]
    [InlineData(false, 0)]
    [InlineData(true, 0)]
    [InlineData(true, 90)]
    public void Items_cover_every_row_and_key_once(bool causal, int window)
    {
        int[] queries = [1, 40, 3, 0, 1, 2], keys = [1000, 77, 333, 50, 0, 65];
        AttentionOptions options = new() { Mask = window > 0 ? AttentionMask.CausalWindow(window) : causal ? AttentionMask.Causal : AttentionMask.Full };
        AttentionProblem problem = Problem(queries, keys, options);
        DevicePlan plan = Plan(problem, TestTiles.PrefillAndDecode());
        var seen = new HashSet<(int Sequence, int Row, int Key)>();
        var written = new HashSet<long>();
        var partialItems = 0;
        foreach (AttentionKernel kernel in Enum.GetValues<AttentionKernel>())
        {
            foreach (WorkItem item in plan.ItemsOf(kernel).Items)
            {
                ref readonly SequenceProblem sequence = ref problem.Sequences[item.Sequence];
                for (int row = item.FirstRow; row < item.EndRow; row++)
                {
                    KeyRange range = problem.RangeOf(sequence, row / problem.Group).Intersect(item.FirstKey, item.EndKey);
                    for (int key = range.Start; key < range.End; key++) Assert.True(seen.Add((item.Sequence, row, key)), $"Sequence {item.Sequence}, row {row}, key {key} is in two items.");
                    if (item.Partial < 0) continue;
                    for (int head = 0; head < problem.KeyValueHeads; head++)
                    {
                        long at = item.Partial + ((long)head * sequence.QueryLength * problem.Group) + row;
                        Assert.True(written.Add(at) && at < plan.PartialRows, $"Partial row {at} of {plan.PartialRows}.");
                    }
                }

                if (item.Partial >= 0) partialItems++;
            }
        }

        Assert.Equal(problem.AllowedPairs() * problem.Group, seen.Count);
        Assert.Equal(plan.PartialRows, written.Count);
        Assert.True(partialItems > 0 && plan.SplitSequences > 0);
        var merged = new HashSet<(int Sequence, int Row)>();
        foreach (WorkItem item in plan.Merges.Items)
            for (int row = item.FirstRow; row < item.EndRow; row++) Assert.True(merged.Add((item.Sequence, row)));
        Assert.Equal(Enumerable.Range(0, queries.Length).Where(s => Splits(plan, s) > 1).Sum(s => queries[s] * problem.Group), merged.Count);
    }

    /// <summary>Where a kernel folds splits, items take whole sequences, groups or splits, at absolute multiples of their size: every key once, and each with the same groups.</summary>
    [Theory]
    [InlineData("All", 0, 4, 0)]
    [InlineData("Group", 0, 4 + 3, 4)]
    [InlineData("Split", 0, 4 + 3, 4)]
    [InlineData("Group", 150, 2 + 2, 2)]
    [InlineData("Split", 150, 3 + 4, 4)]
    public void Folded_items_cover_every_key_once(string forced, int window, int parts, int most)
    {
        // Of 1,000 keys that are all in sight there are 4 groups of 256, and 16 splits: more than are merged, as the 6 of 333 are. With a window 151 and 152 keys are.
        int[] queries = [1, 2, 1, 1], keys = [1000, 333, 0, 64];
        AttentionOptions options = new() { Mask = window > 0 ? AttentionMask.CausalWindow(window) : AttentionMask.Causal };
        AttentionProblem problem = Problem(queries, keys, options);
        DevicePlan plan = Plan(problem, TestTiles.Folded(Enum.Parse<ItemKeys>(forced)));
        WorkItem[] items = plan.ItemsOf(AttentionKernel.Decode).Items.ToArray();
        foreach (IGrouping<int, WorkItem> sequence in items.GroupBy(static item => item.Sequence))
        {
            WorkItem[] ordered = [.. sequence.OrderBy(static item => item.Split)];
            KeyRange visible = problem.RangeOf(problem.Sequences[sequence.Key], 0, queries[sequence.Key] - 1);
            Assert.Equal((visible.Start, visible.End), (ordered[0].FirstKey, ordered[^1].EndKey));
            int groupKeys = Math.Max(128, (int)System.Numerics.BitOperations.RoundUpToPowerOf2((uint)(visible.Length + 3) / 4));
            for (int i = 0; i < ordered.Length; i++)
            {
                WorkItem item = ordered[i];
                int groupShift = (item.Splits >> 16) & 0xFF, partShift = item.Splits >> 24;
                Assert.Equal((i, ordered.Length > 1 ? ordered.Length : 0, groupKeys), (item.Split, item.Splits & 0xFFFF, 1 << groupShift));
                Assert.Equal(ordered.Length > 1, item.Partial >= 0);
                if (i == 0) continue;
                Assert.Equal(ordered[i - 1].EndKey, item.FirstKey);
                Assert.Equal((0, (item.FirstKey >> partShift) - (ordered[0].FirstKey >> partShift)), (item.FirstKey % (1 << partShift), i));
                Assert.True(partShift == groupShift || partShift == 6);
            }
        }

        Assert.Equal((forced is "All" ? 4 : parts + 2, most), (items.Length, plan.MostSplits));
        Assert.Equal(0, plan.Merges.Count);
    }

    [Fact]
    public void Hidden_capacity_does_not_show()
    {
        var options = new AttentionOptions { Mask = AttentionMask.Causal, QueryOffset = 299 };
        DevicePlan near = Plan(Problem([1], [300], options), TestTiles.PrefillAndDecode()), far = Plan(Problem([1], [90_000], options), TestTiles.PrefillAndDecode());
        Assert.Equal(Text(near), Text(far));
        Assert.Equal(3, near.MostSplits);
    }

    [Fact]
    public void A_single_split_is_no_split()
    {
        DevicePlan plan = Plan([1, 1], [64, 65], TestTiles.PrefillAndDecode());
        Assert.Equal((1, 2, 1), (Splits(plan, 0), Splits(plan, 1), plan.SplitSequences));
        Assert.Equal(2L * 2 * 4, plan.PartialRows);
    }

    /// <summary>What is merged together has the same rows and all splits, and each split finds the partial rows of the first.</summary>
    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void Splits_of_the_same_rows_find_each_other(bool mergesInKernel)
    {
        // Group 4: 4 queries are 16 rows in blocks of 8.
        AttentionProblem problem = Problem([1, 4, 1, 40], [1000, 200, 64, 500], AttentionOptions.Default);
        DevicePlan plan = Plan(problem, TestTiles.PrefillAndDecode(mergesInKernel: mergesInKernel));
        var starts = new HashSet<long>();
        foreach (var group in plan.ItemsOf(AttentionKernel.Decode).Items.ToArray().Where(static item => item.Partial >= 0).GroupBy(static item => (item.Sequence, item.FirstRow, item.EndRow, item.Splits)))
        {
            Assert.Equal(Enumerable.Range(0, group.Key.Splits), group.Select(static item => item.Split).Order());
            int rows = problem.Sequences[group.Key.Sequence].QueryLength * problem.Group;
            long start = Assert.Single(group.Select(item => item.Partial - ((long)item.Split * problem.KeyValueHeads * rows)).Distinct());
            Assert.True(starts.Add(start + group.Key.FirstRow));
        }

        Assert.Equal(3, starts.Count);
        foreach (WorkItem item in plan.ItemsOf(AttentionKernel.Prefill).Items) Assert.Equal((0, 0, -1), (item.Split, item.Splits, item.Partial));
        Assert.Equal(mergesInKernel ? 0 : 1 + 4, plan.Merges.Count);
        Assert.Equal(!mergesInKernel, plan.Launches.ToArray().Any(static launch => launch.IsMerge));
    }

    [Fact]
    public void Row_invariant_calls_have_one_kernel_and_no_splits()
    {
        AttentionProblem problem = Problem([1, 40], [1000, 1000], new AttentionOptions { RowInvariant = true });
        DevicePlan plan = Plan(problem, new TestTiles(KernelChoice.Of(problem, hasPrefill: true, hasDecode: true)));
        Assert.Equal(("prefill", 0, 0L), (plan.KernelName, plan.SplitSequences, plan.PartialRows));
    }

    /// <summary>However small the budget: launches are in order, cover each list once, and a new submission begins only where the one before is full.</summary>
    [Theory]
    [InlineData(1)]
    [InlineData(3e6)]
    [InlineData(double.PositiveInfinity)]
    public void Launches_cover_the_lists_in_submissions_of_the_budget(double budget)
    {
        AttentionProblem problem = Problem([1, 100, 1, 64], [1000, 100, 3000, 640], AttentionOptions.Default);
        DevicePlan plan = Plan(problem, TestTiles.PrefillAndDecode(budget));
        var covered = new Dictionary<(AttentionKernel, bool), int>();
        int submissions = 1;
        foreach (LaunchRange launch in plan.Launches)
        {
            int before = covered.GetValueOrDefault((launch.Kernel, launch.IsMerge));
            long list = launch.IsMerge ? plan.Scratch.Merges : plan.Scratch.Items + (launch.Kernel == AttentionKernel.Decode ? (long)plan.ItemsOf(AttentionKernel.Prefill).Count * Unsafe.SizeOf<WorkItem>() : 0);
            Assert.Equal(list + ((long)before * Unsafe.SizeOf<WorkItem>()), launch.ItemsOffset);
            covered[(launch.Kernel, launch.IsMerge)] = before + launch.Count;
            if (launch.BeginsSubmission) submissions++;
        }

        Assert.Equal(plan.ItemsOf(AttentionKernel.Prefill).Count, covered[(AttentionKernel.Prefill, false)]);
        Assert.Equal(plan.ItemsOf(AttentionKernel.Decode).Count, covered[(AttentionKernel.Decode, false)]);
        Assert.Equal(plan.Merges.Count, covered[(AttentionKernel.Decode, true)]);
        double cost = plan.ItemsOf(AttentionKernel.Prefill).Cost + plan.ItemsOf(AttentionKernel.Decode).Cost + plan.Merges.Cost;
        if (double.IsPositiveInfinity(budget)) Assert.Equal(1, submissions);
        else Assert.InRange(submissions, Math.Min(plan.ItemCount, cost / budget), plan.ItemCount);
    }

    [Fact]
    public void A_plan_that_is_used_again_is_as_a_new_one()
    {
        var used = new DevicePlan();
        foreach ((int[] queries, int[] keys) in ((int[], int[])[])[([1, 40], [5000, 40]), ([1], [10]), ([0], [5]), ([3, 2, 50], [700, 0, 60])])
        {
            AttentionProblem problem = Problem(queries, keys, AttentionOptions.Default);
            used.Build(problem, TestTiles.PrefillAndDecode());
            Assert.Equal(Text(Plan(problem, TestTiles.PrefillAndDecode())), Text(used));
        }
    }

    [Fact]
    public void Sequences_beyond_the_kernels_numbers_are_refused()
    {
        AttentionProblem problem = Problem([1], [10], AttentionOptions.Default);
        problem.Sequences[0].QueryLength = int.MaxValue / 3;
        var error = Assert.Throws<NotSupportedException>(() => Plan(problem, TestTiles.PrefillAndDecode()));
        Assert.Contains("x 4 heads", error.Message, StringComparison.Ordinal);
    }

    private static AttentionProblem Problem(int[] queries, int[] keys, AttentionOptions options) =>
        ShapeProblem.Sequences<float, float>(new AttentionShape(1, 1, 1, 8, 2, 16), queries, keys, null, options);

    private static DevicePlan Plan(int[] queries, int[] keys, TestTiles tiles) => Plan(Problem(queries, keys, AttentionOptions.Default), tiles);

    private static DevicePlan Plan(AttentionProblem problem, TestTiles tiles)
    {
        var plan = new DevicePlan();
        plan.Build(problem, tiles);
        return plan;
    }

    private static int[] Sequences(WorkList list) => [.. list.Items.ToArray().Select(static item => item.Sequence).Distinct().Order()];

    private static int Splits(DevicePlan plan, int sequence)
    {
        foreach (WorkItem item in plan.Merges.Items)
            if (item.Sequence == sequence) return item.EndKey;
        return 1;
    }

    private static string Text(DevicePlan plan)
    {
        string[] lists = [.. Enum.GetValues<AttentionKernel>().Select(kernel => Items(plan.ItemsOf(kernel))), Items(plan.Merges)];
        return $"{plan.KernelName} {plan.PartialRows} {plan.SplitSequences} {plan.MostSplits} {plan.ItemCount}\n{string.Join('\n', lists)}\n{string.Join(' ', plan.Launches.ToArray())}";

        static string Items(WorkList list) => string.Join(' ', list.Items.ToArray().Select(static i => $"{i.Sequence}:{i.FirstRow}-{i.EndRow}:{i.FirstKey}-{i.EndKey}:{i.Partial}"));
    }
}
