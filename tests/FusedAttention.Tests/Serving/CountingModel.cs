using FusedAttention.Serving;
using Xunit;

namespace FusedAttention.Tests.Serving;

/// <summary>
/// A model whose right answers are known: the next token is a hash of all tokens before it. It keeps the tokens themselves as keys and values, and reads them back through the block tables, so
/// a wrong block, a block shared wrongly, or one given to two requests gives a wrong text.
/// </summary>
internal sealed class CountingModel : IDisposable
{
    public const int Vocabulary = 5;

    private readonly int _blockSize;

    public CountingModel(int blocks, int blockSize, BatchSchedulerOptions? options = null)
    {
        _blockSize = blockSize;
        Cache = new(new() { Blocks = blocks, BlockSize = blockSize, KeyValueHeads = 1, KeyDim = 1, Layers = 2 });
        Scheduler = BatchScheduler.Create(Cache, options);
    }

    public PagedKeyValueCache<float> Cache { get; }

    public BatchScheduler Scheduler { get; }

    /// <summary>The text that must come of a prompt.</summary>
    public static int[] Continue(ReadOnlySpan<int> prompt, int newTokens, ReadOnlySpan<int> stopTokens = default)
    {
        List<int> tokens = [.. prompt];
        while (tokens.Count < prompt.Length + newTokens)
        {
            tokens.Add(Next(tokens.ToArray()));
            if (stopTokens.Contains(tokens[^1])) break;
        }

        return [.. tokens[prompt.Length..]];
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
        float[] rows = [.. step.Tokens.ToArray().Select(static token => (float)token)];
        float[] marked = [.. rows.Select(static token => token + 1000)];
        Cache.Write(0, step.Batch, rows, marked);
        Cache.Write(1, step.Batch, marked, rows);
        int[] sampled = new int[step.LogitRows.Length];
        PagedSequences sequences = step.Batch.Sequences;
        for (int i = 0; i < step.Runs.Length; i++)
        {
            ScheduledRun run = step.Runs[i];
            int visible = run.Position + run.TokenCount;
            Assert.Equal(visible, sequences.ContextLengths[i]);
            Assert.Equal(run.FirstRow, sequences.CumulativeQueryLengths[i]);
            Assert.Equal(run.FirstRow + run.TokenCount, sequences.CumulativeQueryLengths[i + 1]);
            Assert.Equal(run.Request.Tokens.Slice(run.Position, run.TokenCount).ToArray(), step.Tokens.Slice(run.FirstRow, run.TokenCount).ToArray());
            int[] tokens = Read(sequences, i, visible);
            Assert.Equal(run.Request.Tokens[..visible].ToArray(), tokens);
            Assert.Equal(visible == run.Request.Tokens.Length, run.NeedsLogits);
            if (!run.NeedsLogits) continue;
            Assert.Equal(run.FirstRow + run.TokenCount - 1, step.LogitRows[run.LogitIndex]);
            sampled[run.LogitIndex] = Next(tokens);
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

    private static int Next(ReadOnlySpan<int> tokens)
    {
        uint hash = 2_166_136_261;
        foreach (int token in tokens) hash = (hash ^ (uint)token) * 16_777_619;
        return (int)((hash >> 15) % Vocabulary);
    }

    private int[] Read(PagedSequences sequences, int index, int count)
    {
        int[] tokens = new int[count];
        for (int j = 0; j < count; j++)
        {
            int block = sequences.BlockTables[(index * sequences.MaxBlocksPerSequence) + (j / _blockSize)];
            int slot = j % _blockSize;
            float token = Cache.GetKeys(0)[block, slot, 0, 0];
            Assert.Equal(token, Cache.GetValues(1)[block, slot, 0, 0]);
            Assert.Equal(token + 1000, Cache.GetValues(0)[block, slot, 0, 0]);
            Assert.Equal(token + 1000, Cache.GetKeys(1)[block, slot, 0, 0]);
            tokens[j] = (int)token;
        }

        return tokens;
    }
}
