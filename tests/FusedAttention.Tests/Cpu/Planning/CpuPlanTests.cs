using FusedAttention.Cpu.Planning;
using FusedAttention.Problems;
using Xunit;

namespace FusedAttention.Tests.Cpu.Planning;

/// <summary>
/// The plan as a pure function, without a kernel: that its items are the whole call and nothing twice, what must not follow the number of threads, and a few plans in full, so that a change of any rule is seen.
/// </summary>
public sealed class CpuPlanTests
{
    public static TheoryData<int> Seeds => [.. Enumerable.Range(1, 40)];

    [Theory]
    [MemberData(nameof(Seeds))]
    public void Items_are_the_whole_call_and_nothing_twice(int seed)
    {
        AttentionProblem problem = NextProblem(new Random(seed));
        foreach (int threads in (int[])[1, 2, 3, 16, 200])
        {
            var plan = new CpuPlan();
            plan.Build(problem, new Sizes(), threads);
            Assert.InRange(plan.Threads, 1, Math.Min(threads, Math.Max(1, plan.Count)));
            for (int s = 0; s < problem.SequenceCount; s++)
            {
                SequenceProblem sequence = problem.Sequences[s];
                int rows = sequence.QueryLength * problem.Group;
                KeyRange visible = rows == 0 ? default : problem.RangeOf(sequence, 0, sequence.QueryLength - 1);
                for (int head = 0; head < problem.KeyValueHeads; head++)
                {
                    WorkItem[] own = [.. plan.Items.ToArray().Where(item => item.Sequence == s && head >= item.Head && head < item.Head + item.HeadCount)];
                    if (rows == 0) Assert.Empty(own);
                    else if (CpuPlan.IsDecode(problem, sequence)) AssertChunks(own, rows, visible);
                    else AssertBlocks(own, rows);
                }
            }
        }
    }

    /// <summary>What shows in the bits: the kernel of a sequence, and where its keys are split.</summary>
    [Theory]
    [MemberData(nameof(Seeds))]
    public void Kernel_and_split_do_not_follow_the_number_of_threads_or_the_batch(int seed)
    {
        AttentionProblem problem = NextProblem(new Random(seed));
        for (int s = 0; s < problem.SequenceCount; s++)
        {
            string[] alone = Splits(Alone(problem, s), 1, 0);
            foreach (int threads in (int[])[1, 2, 7, 64]) Assert.Equal(alone, Splits(problem, threads, s));
        }

        static string[] Splits(AttentionProblem problem, int threads, int sequence)
        {
            var plan = new CpuPlan();
            plan.Build(problem, new Sizes(), threads);
            return [.. plan.Items.ToArray().Where(item => item.Sequence == sequence).Select(item => $"{item.Kind} {item.Chunk}/{item.ChunkCount} [{item.KeyStart}, {item.KeyEnd}) of {item.VisibleKeys}").Distinct(StringComparer.Ordinal).Order(StringComparer.Ordinal)];
        }
    }

    [Theory]
    [MemberData(nameof(Seeds))]
    public void Partial_results_have_a_place_each_and_a_counter_for_all(int seed)
    {
        AttentionProblem problem = NextProblem(new Random(seed));
        foreach (int threads in (int[])[1, 16])
        {
            var plan = new CpuPlan();
            plan.Build(problem, new Sizes(), threads);
            WorkItem[] split = [.. plan.Items.ToArray().Where(item => item.ChunkCount > 1)];
            long next = 0;
            foreach (WorkItem item in split.OrderBy(Place))
            {
                Assert.Equal(next, Place(item));
                Assert.Equal((long)item.HeadCount * item.RowCount * new Sizes().PartialRowFloats(problem.ValueDim), item.PartialStride);
                next += item.PartialStride;
            }

            Assert.Equal(plan.PartialFloats, next);
            foreach (IGrouping<int, WorkItem> one in split.GroupBy(item => item.Counter))
            {
                Assert.Equal(plan.RemainingChunks[one.Key], one.Count());
                Assert.Single(one.Select(item => (item.Sequence, item.Head)).Distinct());
                Assert.Equal(Enumerable.Range(0, one.Count()), one.Select(item => item.Chunk).Order());
            }

            Assert.Equal(plan.CounterCount, split.Select(item => item.Counter).Distinct().Count());
        }

        static long Place(WorkItem item) => item.PartialStart + (item.Chunk * item.PartialStride);
    }

    [Theory]
    [MemberData(nameof(Seeds))]
    public void A_plan_that_is_used_again_is_a_new_one(int seed)
    {
        var used = new CpuPlan();
        used.Build(NextProblem(new Random(seed + 1000)), new Sizes(), 5);
        AttentionProblem problem = NextProblem(new Random(seed));
        used.Build(problem, new Sizes(), 3);
        Assert.Equal(Text(problem, 3), Text(used));
    }

    [Fact]
    public void Costly_items_come_first_where_several_threads_take_them()
    {
        AttentionProblem problem = Sequences([400, 3, 1, 700], [400, 900, 40_000, 700], heads: 8, keyValueHeads: 2);
        var plan = new CpuPlan();
        plan.Build(problem, new Sizes(), 4);
        double[] costs = [.. plan.Items.ToArray().Select(item => item.Cost)];
        Assert.Equal(4, plan.Threads);
        Assert.Equal(costs.OrderDescending(), costs);
    }

    /// <summary>A second thread costs 10 us or so: little work has one.</summary>
    [Theory]
    [InlineData(64, 1)]
    [InlineData(128, 2)]
    [InlineData(512, 16)]
    public void Threads_follow_the_arithmetic(int tokens, int threads)
    {
        var plan = new CpuPlan();
        plan.Build(ShapeProblem.Dense<float, float>(new AttentionShape(1, tokens, tokens, 1, 1, 32), AttentionOptions.Default), new Sizes(), 16);
        Assert.Equal(64.0 * tokens * tokens, plan.Cost);
        Assert.Equal(Math.Min(threads, plan.Count), plan.Threads);
    }

    [Fact]
    public void A_call_without_queries_is_no_work()
    {
        var plan = new CpuPlan();
        plan.Build(Sequences([0, 0], [5, 0]), new Sizes(), 4);
        Assert.Equal((0, 1, "none"), (plan.Count, plan.Threads, plan.KernelName));
    }

    [Fact]
    public void Prefill_on_one_thread_takes_large_blocks() => AssertPlan(
        Sequences([700], [700], heads: 4, keyValueHeads: 2), 1,
        """
        prefill: 1 threads, 125619200 multiply-adds, scratch 1038000, partial 0, counters []
        Prefill of 0: head 0 rows 0..1038, cost 269880
        Prefill of 0: head 0 rows 1038..1400, cost 220820
        Prefill of 0: head 1 rows 0..1038, cost 269880
        Prefill of 0: head 1 rows 1038..1400, cost 220820
        """);

    [Fact]
    public void Prefill_on_four_threads_takes_smaller_ones() => AssertPlan(
        Sequences([700], [700], heads: 4, keyValueHeads: 2), 4,
        """
        prefill: 4 threads, 125619200 multiply-adds, scratch 174000, partial 0, counters []
        Prefill of 0: head 0 rows 1218..1392, cost 113622
        Prefill of 0: head 1 rows 1218..1392, cost 113622
        Prefill of 0: head 0 rows 1044..1218, cost 98484
        Prefill of 0: head 1 rows 1044..1218, cost 98484
        Prefill of 0: head 0 rows 870..1044, cost 83346
        Prefill of 0: head 1 rows 870..1044, cost 83346
        Prefill of 0: head 0 rows 696..870, cost 68208
        Prefill of 0: head 1 rows 696..870, cost 68208
        Prefill of 0: head 0 rows 522..696, cost 53070
        Prefill of 0: head 1 rows 522..696, cost 53070
        Prefill of 0: head 0 rows 348..522, cost 37932
        Prefill of 0: head 1 rows 348..522, cost 37932
        Prefill of 0: head 0 rows 174..348, cost 22794
        Prefill of 0: head 1 rows 174..348, cost 22794
        Prefill of 0: head 0 rows 0..174, cost 7656
        Prefill of 0: head 1 rows 0..174, cost 7656
        Prefill of 0: head 0 rows 1392..1400, cost 5588
        Prefill of 0: head 1 rows 1392..1400, cost 5588
        """);

    [Fact]
    public void Decode_reads_all_heads_and_splits_long_contexts() => AssertPlan(
        Sequences([1, 1, 4], [300, 1500, 700], heads: 8, keyValueHeads: 2), 1,
        """
        decode: 1 threads, 4704256 multiply-adds, scratch 320, partial 5808, counters [3 2]
        Decode of 0: heads 0..1 rows 4 keys 0..300 of 300, chunk 0 of 1, cost 2400
        Decode of 1: heads 0..1 rows 4 keys 0..512 of 1500, chunk 0 of 3 at 0 + 528, counter 0, cost 4096
        Decode of 1: heads 0..1 rows 4 keys 512..1024 of 1500, chunk 1 of 3 at 0 + 528, counter 0, cost 4096
        Decode of 1: heads 0..1 rows 4 keys 1024..1500 of 1500, chunk 2 of 3 at 0 + 528, counter 0, cost 3808
        Decode of 2: heads 0..1 rows 16 keys 0..512 of 700, chunk 0 of 2 at 1584 + 2112, counter 1, cost 16384
        Decode of 2: heads 0..1 rows 16 keys 512..700 of 700, chunk 1 of 2 at 1584 + 2112, counter 1, cost 6016
        """);

    [Fact]
    public void Decode_on_many_threads_splits_the_heads_too() => AssertPlan(
        Sequences([1], [900], heads: 64, keyValueHeads: 8, dim: 128), 8,
        """
        decode: 8 threads, 14745600 multiply-adds, scratch 80, partial 16640, counters [2 2 2 2 2 2 2 2]
        Decode of 0: heads 0..0 rows 8 keys 0..512 of 900, chunk 0 of 2 at 0 + 1040, counter 0, cost 4096
        Decode of 0: heads 1..1 rows 8 keys 0..512 of 900, chunk 0 of 2 at 2080 + 1040, counter 1, cost 4096
        Decode of 0: heads 2..2 rows 8 keys 0..512 of 900, chunk 0 of 2 at 4160 + 1040, counter 2, cost 4096
        Decode of 0: heads 3..3 rows 8 keys 0..512 of 900, chunk 0 of 2 at 6240 + 1040, counter 3, cost 4096
        Decode of 0: heads 4..4 rows 8 keys 0..512 of 900, chunk 0 of 2 at 8320 + 1040, counter 4, cost 4096
        Decode of 0: heads 5..5 rows 8 keys 0..512 of 900, chunk 0 of 2 at 10400 + 1040, counter 5, cost 4096
        Decode of 0: heads 6..6 rows 8 keys 0..512 of 900, chunk 0 of 2 at 12480 + 1040, counter 6, cost 4096
        Decode of 0: heads 7..7 rows 8 keys 0..512 of 900, chunk 0 of 2 at 14560 + 1040, counter 7, cost 4096
        Decode of 0: heads 0..0 rows 8 keys 512..900 of 900, chunk 1 of 2 at 0 + 1040, counter 0, cost 3104
        Decode of 0: heads 1..1 rows 8 keys 512..900 of 900, chunk 1 of 2 at 2080 + 1040, counter 1, cost 3104
        Decode of 0: heads 2..2 rows 8 keys 512..900 of 900, chunk 1 of 2 at 4160 + 1040, counter 2, cost 3104
        Decode of 0: heads 3..3 rows 8 keys 512..900 of 900, chunk 1 of 2 at 6240 + 1040, counter 3, cost 3104
        Decode of 0: heads 4..4 rows 8 keys 512..900 of 900, chunk 1 of 2 at 8320 + 1040, counter 4, cost 3104
        Decode of 0: heads 5..5 rows 8 keys 512..900 of 900, chunk 1 of 2 at 10400 + 1040, counter 5, cost 3104
        Decode of 0: heads 6..6 rows 8 keys 512..900 of 900, chunk 1 of 2 at 12480 + 1040, counter 6, cost 3104
        Decode of 0: heads 7..7 rows 8 keys 512..900 of 900, chunk 1 of 2 at 14560 + 1040, counter 7, cost 3104
        """);

    [Fact]
    public void A_window_decodes_its_own_keys() => AssertPlan(
        Sequences([1], [5000], options: new AttentionOptions { Mask = AttentionMask.CausalWindow(600) }), 1,
        """
        decode: 1 threads, 153856 multiply-adds, scratch 20, partial 264, counters [2]
        Decode of 0: heads 0..0 rows 2 keys 4399..4608 of 601, chunk 0 of 2 at 0 + 132, counter 0, cost 418
        Decode of 0: heads 0..0 rows 2 keys 4608..5000 of 601, chunk 1 of 2 at 0 + 132, counter 0, cost 784
        """);

    [Fact]
    public void Row_invariance_decodes_nothing() => AssertPlan(
        Sequences([1, 20], [900, 20], options: new AttentionOptions { RowInvariant = true }), 1,
        """
        prefill: 1 threads, 332800 multiply-adds, scratch 40000, partial 0, counters []
        Prefill of 0: head 0 rows 0..2, cost 1800
        Prefill of 1: head 0 rows 0..40, cost 800
        """);

    [Fact]
    public void A_call_beyond_floats_is_computed_in_double_precision() => AssertPlan(
        Sequences([9, 1], [30, 30], heads: 4, options: new AttentionOptions { Scale = 1e6f }), 1,
        """
        double precision: 1 threads, 153600 multiply-adds, scratch 0, partial 0, counters []
        Wide of 0: head 0 rows 0..16, cost 480
        Wide of 0: head 0 rows 16..32, cost 480
        Wide of 0: head 0 rows 32..36, cost 120
        Wide of 1: head 0 rows 0..4, cost 120
        """);

    private static void AssertChunks(WorkItem[] items, int rows, KeyRange visible)
    {
        int next = visible.IsEmpty ? 0 : visible.Start;
        foreach (WorkItem item in items.OrderBy(item => item.Chunk))
        {
            Assert.Equal((WorkKind.Decode, rows, items.Length, visible.Length), (item.Kind, item.RowCount, item.ChunkCount, item.VisibleKeys));
            Assert.Equal(next, item.KeyStart);
            next = item.KeyEnd;
        }

        Assert.Equal(visible.IsEmpty ? 0 : visible.End, next);
    }

    private static void AssertBlocks(WorkItem[] items, int rows)
    {
        long next = 0;
        foreach (WorkItem item in items.OrderBy(item => item.RowStart))
        {
            Assert.Equal((WorkKind.Prefill, 1, next), (item.Kind, item.HeadCount, item.RowStart));
            Assert.True(item.RowCount > 0 && (item.RowStart + item.RowCount == rows || item.RowCount % Sizes.Rows == 0), $"{item.RowCount} rows are no whole tiles.");
            next += item.RowCount;
        }

        Assert.Equal(rows, next);
    }

    private static void AssertPlan(AttentionProblem problem, int threads, string expected) => Snapshot.AssertSame(expected, Text(problem, threads));

    private static string Text(AttentionProblem problem, int threads)
    {
        var plan = new CpuPlan();
        plan.Build(problem, new Sizes(), threads);
        return Text(plan);
    }

    private static string Text(CpuPlan plan)
    {
        List<string> lines = [$"{plan.KernelName}: {plan.Threads} threads, {plan.Cost} multiply-adds, scratch {plan.ScratchBytes}, partial {plan.PartialFloats}, counters [{string.Join(' ', plan.RemainingChunks.Take(plan.CounterCount))}]"];
        // Costliest first with several threads; which of two equal ones comes first is the sorting routine's affair.
        IEnumerable<WorkItem> items = plan.Threads == 1 ? plan.Items.ToArray() : plan.Items.ToArray().OrderByDescending(item => item.Cost).ThenBy(item => item.Sequence).ThenBy(item => item.Head).ThenBy(item => item.Chunk);
        foreach (WorkItem item in items)
        {
            string what = item.Kind == WorkKind.Decode
                ? $"heads {item.Head}..{item.Head + item.HeadCount - 1} rows {item.RowCount} keys {item.KeyStart}..{item.KeyEnd} of {item.VisibleKeys}, chunk {item.Chunk} of {item.ChunkCount}" + (item.ChunkCount > 1 ? $" at {item.PartialStart} + {item.PartialStride}, counter {item.Counter}" : "")
                : $"head {item.Head} rows {item.RowStart}..{item.RowStart + item.RowCount}";
            lines.Add($"{item.Kind} of {item.Sequence}: {what}, cost {item.Cost}");
        }

        return string.Join('\n', lines);
    }

    private static AttentionProblem Sequences(int[] queries, int[] keys, int heads = 2, int keyValueHeads = 1, int dim = 64, AttentionOptions? options = null)
        => ShapeProblem.Sequences<float, float>(new AttentionShape(1, 1, 1, heads, keyValueHeads, dim), queries, keys, blockSize: null, options ?? new AttentionOptions { Mask = AttentionMask.Causal });

    private static AttentionProblem NextProblem(Random random)
    {
        int keyValueHeads = random.Next(1, 6), heads = keyValueHeads * random.Next(1, 6), count = random.Next(1, 7);
        int[] queries = [.. Enumerable.Range(0, count).Select(_ => random.Next(4) switch { 0 => 1, 1 => random.Next(0, 10), _ => random.Next(1, 1500) })];
        int[] keys = [.. Enumerable.Range(0, count).Select(_ => random.Next(4) switch { 0 => random.Next(0, 3), 1 => random.Next(1, 40_000), _ => random.Next(1, 3000) })];
        AttentionMask[] masks = [AttentionMask.Full, AttentionMask.Causal, AttentionMask.CausalWindow(random.Next(1, 2000))];
        return Sequences(queries, keys, heads, keyValueHeads, random.Next(1, 200), new AttentionOptions { Mask = masks[random.Next(3)], RowInvariant = random.Next(5) == 0 });
    }

    /// <summary>One sequence of a call as a call of its own.</summary>
    private static AttentionProblem Alone(AttentionProblem problem, int index)
    {
        AttentionProblem alone = Sequences([1], [1], problem.QueryHeads, problem.KeyValueHeads, problem.KeyDim);
        (alone.LeftReach, alone.RightReach, alone.RowInvariant) = (problem.LeftReach, problem.RightReach, problem.RowInvariant);
        alone.Sequences[0] = problem.Sequences[index];
        return alone;
    }

    /// <summary>Kernels with tiles of 6 rows whose memory is easy to recognise.</summary>
    private sealed class Sizes : IKernelSizes
    {
        public const int Rows = 6;

        public PrefillRows PrefillRows(AttentionProblem problem) => FusedAttention.Cpu.Planning.PrefillRows.OfFloats(Rows, problem.KeyDim, problem.ValueDim);

        public int PartialRowFloats(int valueDim) => valueDim + 2;

        public long PrefillScratch(AttentionProblem problem, in PrefillSizes sizes) => sizes.Rows * 1000L;

        public long DecodeScratch(AttentionProblem problem, int heads, int rows) => heads * rows * 10L;
    }
}
