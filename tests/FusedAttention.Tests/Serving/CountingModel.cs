using FusedAttention.Serving;
using Xunit;

namespace FusedAttention.Tests.Serving;

/// <summary>
/// A model whose right answers are known: the next token is a hash of the tokens before it, of all or of a window. It keeps the tokens themselves as keys and values, and reads them back through the block tables, so
/// a wrong block, a block shared wrongly, or one given to two requests gives a wrong text.
/// </summary>
internal sealed class CountingModel : IDisposable
{
    public const int Vocabulary = 5;

    private readonly int _blockSize;
    private readonly int _window;

    public CountingModel(int blocks, int blockSize, BatchSchedulerOptions? options = null)
    {
        _blockSize = blockSize;
        _window = options?.Window ?? 0;
        Cache = new(new() { Blocks = blocks, BlockSize = blockSize, KeyValueHeads = 1, KeyDim = 1, Layers = 2 });
        Scheduler = BatchScheduler.Create(Cache, options);
    }

    public PagedKeyValueCache<float> Cache { get; }

    public BatchScheduler Scheduler { get; }

    /// <summary>What the keys of tokens depend on beside them: other weights, another adapter. It is part of what is kept, so a block of another one is noticed.</summary>
    public Func<GenerationRequest, int> Weights { get; set; } = static _ => 0;

    /// <summary>The text that must come of a prompt.</summary>
    public static int[] Continue(ReadOnlySpan<int> prompt, int newTokens, ReadOnlySpan<int> stopTokens = default, int window = 0)
    {
        List<int> tokens = [.. prompt];
        while (tokens.Count < prompt.Length + newTokens)
        {
            tokens.Add(Next(tokens.ToArray(), window));
            if (stopTokens.Contains(tokens[^1])) break;
        }

        return [.. tokens[prompt.Length..]];
    }

    /// <summary>The token that follows.</summary>
    public static int Next(ReadOnlySpan<int> tokens, int window = 0)
    {
        if (window > 0) tokens = tokens[Math.Max(0, tokens.Length - window)..];
        uint hash = 2_166_136_261;
        foreach (int token in tokens) hash = (hash ^ (uint)token) * 16_777_619;
        return (int)((hash >> 15) % Vocabulary);
    }

    /// <summary>Plans a step, runs it and completes it.</summary>
    /// <returns>False if there was nothing to run.</returns>
    public bool Step()
    {
        BatchStep step = Scheduler.Next();
        if (step.IsEmpty) return false;
        Scheduler.Complete(Run(step));
        return true;
    }

    public void RunToEnd()
    {
        while (Step())
        {
        }

        Assert.False(Scheduler.HasWork);
    }

    /// <summary>Writes the step's tokens into the cache, reads all visible ones back, and answers.</summary>
    public int[] Run(BatchStep step)
    {
        Write(step);
        int[] sampled = new int[step.LogitRows.Length];
        PagedSequences sequences = step.Batch.Sequences;
        for (int i = 0; i < step.Runs.Length; i++)
        {
            ScheduledRun run = step.Runs[i];
            int knownCount = run.TokenCount - run.DraftCount, known = run.Position + knownCount, visible = run.Position + run.TokenCount;
            Assert.True(knownCount > 0);
            Assert.Equal(visible, sequences.ContextLengths[i]);
            Assert.Equal(run.FirstRow, sequences.CumulativeQueryLengths[i]);
            Assert.Equal(run.FirstRow + run.TokenCount, sequences.CumulativeQueryLengths[i + 1]);
            Assert.Equal(run.Request.Tokens[run.Position..known].ToArray(), step.Tokens.Slice(run.FirstRow, knownCount).ToArray());
            int first = _window > 0 ? Math.Max(0, run.Position - _window + 1) : 0;
            int[] tokens = Read(sequences, i, first, visible, Weights(run.Request));
            Assert.Equal(run.Request.Tokens[first..known].ToArray(), tokens[first..known]);
            if (!run.Request.Options.PromptLogits) Assert.Equal(known == run.Request.Tokens.Length && run.Request.MaxNewTokens > 0, run.NeedsLogits);
            Assert.Equal(run.NeedsLogits, run.LogitIndex >= 0);
            for (int j = 0; j < run.LogitCount; j++)
            {
                int row = run.TokenCount - run.LogitCount + j;
                Assert.Equal(run.FirstRow + row, step.LogitRows[run.LogitIndex + j]);
                int[] text = row < knownCount ? tokens[..(run.Position + row + 1)] : [.. tokens[..known], .. Path(run, row - knownCount).Select(draft => tokens[known + draft])];
                Assert.Equal(text.Length - 1, step.Positions[run.FirstRow + row]);
                sampled[run.LogitIndex + j] = Next(text, _window);
            }
        }

        return sampled;
    }

    public void AssertNothingLeaked()
    {
        Assert.Equal(0, Cache.SequenceCount);
        Assert.Equal(0, Cache.UsedBlocks);
        Assert.Equal((0, 0), (Scheduler.RunningCount, Scheduler.WaitingCount));
    }

    public void Dispose()
    {
        Scheduler.Dispose();
        Cache.Dispose();
    }

    /// <summary>The drafts that a draft follows, and itself.</summary>
    private static List<int> Path(ScheduledRun run, int draft)
    {
        var path = new List<int>();
        for (; draft >= 0; draft = run.Request.Drafts!.Parent(draft)) path.Insert(0, draft);
        return path;
    }

    private void Write(BatchStep step)
    {
        float[] rows = [.. step.Tokens.ToArray().Select(static token => (float)token)];
        foreach (ScheduledRun run in step.Runs)
            for (int row = run.FirstRow; row < run.FirstRow + run.TokenCount; row++) rows[row] += 100 * Weights(run.Request);
        float[] marked = [.. rows.Select(static token => token + 1000)];
        Cache.Write(0, step.Batch, rows, marked);
        Cache.Write(1, step.Batch, marked, rows);
    }

    private int[] Read(PagedSequences sequences, int index, int first, int count, int weights)
    {
        int[] tokens = new int[count];
        for (int j = first; j < count; j++)
        {
            int block = sequences.BlockTables[(index * sequences.MaxBlocksPerSequence) + (j / _blockSize)];
            int slot = j % _blockSize;
            float token = Cache.GetKeys(0)[block, slot, 0, 0];
            Assert.Equal(token, Cache.GetValues(1)[block, slot, 0, 0]);
            Assert.Equal(token + 1000, Cache.GetValues(0)[block, slot, 0, 0]);
            Assert.Equal(token + 1000, Cache.GetKeys(1)[block, slot, 0, 0]);
            tokens[j] = (int)token - (100 * weights);
        }

        return tokens;
    }
}
