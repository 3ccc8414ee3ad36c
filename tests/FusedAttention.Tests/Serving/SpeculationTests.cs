using FusedAttention.Serving;
using Xunit;

namespace FusedAttention.Tests.Serving;

/// <summary>Drafts give the text that there would be without them, in fewer steps if they are right.</summary>
public sealed class SpeculationTests
{
    [Theory]
    [InlineData(4, 20, 5)]
    [InlineData(1, 20, 11)]
    [InlineData(20, 20, 2)]
    public void Right_drafts_save_steps(int drafts, int tokens, int steps)
    {
        using var model = new CountingModel(blocks: 40, blockSize: 4);
        int[] prompt = [1, 2, 3], text = CountingModel.Continue(prompt, tokens + drafts);
        GenerationRequest request = model.Scheduler.Add(prompt, tokens);
        int taken = 0;
        for (; !request.HasEnded; taken++)
        {
            int at = request.GeneratedTokens.Length;
            if (at > 0) model.Scheduler.Propose(request, text.AsSpan(at, drafts));
            model.Step();
        }

        Assert.Equal(text[..tokens], request.GeneratedTokens.ToArray());
        Assert.Equal(steps, taken);
        Assert.Equal(tokens - steps, model.Scheduler.AcceptedDraftTokens);
        Assert.Equal(model.Scheduler.DraftTokens, model.Scheduler.AcceptedDraftTokens);
        model.AssertNothingLeaked();
    }

    [Fact]
    public void Wrong_drafts_cost_nothing_but_themselves()
    {
        using var model = new CountingModel(blocks: 40, blockSize: 2);
        int[] prompt = [1, 2, 3], text = CountingModel.Continue(prompt, 12);
        GenerationRequest request = model.Scheduler.Add(prompt, 12);
        model.Step();
        while (!request.HasEnded)
        {
            // The first draft is right, the second wrong; the third would be right if the second was.
            int at = request.GeneratedTokens.Length;
            int[] drafts = at + 2 < 12 ? [text[at], (text[at + 1] + 1) % 5, text[at + 2]] : [7];
            Assert.True(model.Scheduler.Propose(request, drafts));
            model.Step();
            Assert.InRange(request.GeneratedTokens.Length - at, 1, 2);
            if (!request.HasEnded) Assert.Equal((request.Tokens.Length - 1 + 1) / 2, model.Cache.UsedBlocks);
        }

        Assert.Equal(text, request.GeneratedTokens.ToArray());
        Assert.False(model.Scheduler.Propose(request, [1]));
        model.AssertNothingLeaked();
    }

    [Theory]
    [InlineData(1)]
    [InlineData(3)]
    [InlineData(8)]
    public void A_tree_keeps_the_branch_that_was_right(int blockSize)
    {
        using var model = new CountingModel(blocks: 200, blockSize);
        var random = new Random(1);
        int[] prompt = [1, 2, 3], text = CountingModel.Continue(prompt, 200);
        GenerationRequest request = model.Scheduler.Add(prompt, 160);
        int steps = 0;
        for (; !request.HasEnded; steps++)
        {
            if (!request.GeneratedTokens.IsEmpty)
            {
                // A right line at random places of a tree of wrong ones.
                int at = request.GeneratedTokens.Length, depth = 0, last = -1;
                List<int> drafts = [], parents = [];
                for (int i = 0; i < 9; i++)
                {
                    bool isRight = random.Next(2) == 0;
                    parents.Add(isRight || i == 0 ? last : random.Next(-1, i));
                    drafts.Add(isRight ? text[at + depth] : 50 + i);
                    if (!isRight) continue;
                    last = i;
                    depth++;
                }

                model.Scheduler.Propose(request, drafts.ToArray(), parents.ToArray());
            }

            BatchStep step = model.Scheduler.Next();
            if (step.HasTrees) AssertMask(step);
            model.Scheduler.Complete(model.Run(step));
        }

        Assert.Equal(text[..160], request.GeneratedTokens.ToArray());
        Assert.InRange(steps, 20, 80);
        model.AssertNothingLeaked();
    }

    /// <summary>The mask hides exactly the drafts that a row does not follow.</summary>
    private static void AssertMask(BatchStep step)
    {
        bool[] mask = new bool[step.Tokens.Length * step.Batch.MaxContextLength];
        step.CopyTreeMask(mask);
        Assert.Throws<ArgumentException>("mask", () => step.CopyTreeMask(new bool[3]));
        MaskFunction function = step.CreateTreeMask()!;
        ScheduledRun run = step.Runs[0];
        int known = run.TokenCount - run.DraftCount, keys = step.Batch.MaxContextLength;
        for (int row = 0; row < run.TokenCount; row++)
        {
            var seen = new HashSet<int>();
            for (int draft = row - known; draft >= 0; draft = run.Request.Drafts!.Parent(draft)) seen.Add(draft);
            for (int key = 0; key <= run.Position + row; key++)
            {
                bool isSeen = key < run.Position + known || seen.Contains(key - run.Position - known);
                Assert.Equal(isSeen, mask[(row * keys) + key]);
                Assert.Equal(isSeen, function.Evaluate(batch: 0, head: 0, row, run.Position + row, key));
            }
        }
    }

    [Fact]
    public void A_stop_token_among_right_drafts_ends_the_text_there()
    {
        using var model = new CountingModel(blocks: 40, blockSize: 4);
        int[] text = CountingModel.Continue([1, 2, 3], 30);
        int stop = text[5], end = Array.IndexOf(text, stop);
        GenerationRequest request = model.Scheduler.Add([1, 2, 3], 30, stop);
        model.Step();
        if (!request.HasEnded) model.Scheduler.Propose(request, text.AsSpan(1, 20));
        model.RunToEnd();
        Assert.Equal(text[..(end + 1)], request.GeneratedTokens.ToArray());
        Assert.Equal(FinishReason.Stop, request.FinishReason);
        model.AssertNothingLeaked();
    }

    [Fact]
    public void Drafts_take_what_prompts_and_blocks_leave()
    {
        using var model = new CountingModel(blocks: 10, blockSize: 4, new() { MaxTokensPerStep = 16 });
        GenerationRequest first = model.Scheduler.Add([1, 2, 3], 20);
        model.Step();
        model.Scheduler.Propose(first, new int[30]);
        Assert.Equal(15, Single(model).DraftCount);
        model.Scheduler.Abandon();
        model.Scheduler.Add(new int[12], 1);
        BatchStep step = model.Scheduler.Next();
        Assert.Equal((7, 8), (step.Runs[0].DraftCount, step.Runs[1].TokenCount));
        model.Scheduler.Abandon();

        using var full = new CountingModel(blocks: 2, blockSize: 4);
        GenerationRequest tight = full.Scheduler.Add([1, 2, 3], 6);
        full.Step();
        CacheSequence other = full.Cache.CreateSequence();
        full.Cache.Extend(other, 1);
        full.Scheduler.Propose(tight, [1, 1]);
        Assert.Equal(0, Single(full).DraftCount);

        static ScheduledRun Single(CountingModel model) => model.Scheduler.Next().Runs[0];
    }

    [Fact]
    public void Drafts_outlive_an_abandoned_step_and_no_token()
    {
        using var model = new CountingModel(blocks: 20, blockSize: 4);
        GenerationRequest request = model.Scheduler.Add([1, 2, 3], 9);
        model.Step();
        model.Scheduler.Propose(request, [1, 2]);
        BatchStep step = model.Scheduler.Next();
        Assert.Equal(2, step.Runs[0].DraftCount);
        Assert.Throws<InvalidOperationException>(() => model.Scheduler.Propose(request, [1]));
        model.Scheduler.Abandon();
        step = model.Scheduler.Next();
        Assert.Equal((2, 3), (step.Runs[0].DraftCount, step.LogitRows.Length));
        model.Scheduler.Complete(model.Run(step));
        step = model.Scheduler.Next();
        Assert.Equal(0, step.Runs[0].DraftCount);
        model.Scheduler.Abandon();
        model.Scheduler.Propose(request, [1]);
        model.Scheduler.Propose(request, []);
        Assert.Equal(0, model.Scheduler.Next().Runs[0].DraftCount);
        model.Scheduler.Abandon();
    }

    [Fact]
    public void What_is_no_tree_is_refused()
    {
        using var model = new CountingModel(blocks: 20, blockSize: 4);
        using var other = new CountingModel(blocks: 20, blockSize: 4);
        GenerationRequest request = model.Scheduler.Add([1, 2, 3], 9);
        Assert.Throws<ArgumentException>("parents", () => model.Scheduler.Propose(request, [1, 2], [-1]));
        Assert.Throws<ArgumentException>("parents", () => model.Scheduler.Propose(request, [1, 2], [-1, 1]));
        Assert.Throws<ArgumentException>("parents", () => model.Scheduler.Propose(request, [1, 2], [-2, 0]));
        Assert.Throws<ArgumentException>("request", () => other.Scheduler.Propose(request, [1]));
    }
}
