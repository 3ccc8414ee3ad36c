using FusedAttention.Samples.TextGeneration.Model;
using FusedAttention.Serving;

namespace FusedAttention.Samples.TextGeneration;

/// <summary>Chooses the token that follows, and hears of every token that was chosen.</summary>
/// <param name="request">Whose token it is.</param>
/// <param name="logits">One number a token of the vocabulary; valid during the call.</param>
internal delegate int ChooseToken(GenerationRequest request, ReadOnlySpan<float> logits);

/// <summary>A model, a cache and a scheduler: everything that serves requests.</summary>
internal sealed class Engine<T> : IDisposable
    where T : unmanaged
{
    private readonly LanguageModel _model;
    private int[] _sampled = [];

    public Engine(LanguageModel model, int blocks, int blockSize, BatchSchedulerOptions? options = null)
    {
        _model = model;
        Cache = model.CreateCache<T>(blocks, blockSize);
        Scheduler = BatchScheduler.Create(Cache, options);
    }

    public KeyValueCache Cache { get; }

    public BatchScheduler Scheduler { get; }

    public int Steps { get; private set; }

    /// <summary>The most blocks that were in use during a step.</summary>
    public int PeakBlocks { get; private set; }

    /// <summary>The most requests that ran in one step.</summary>
    public int PeakRequests { get; private set; }

    public GenerationRequest Add(ReadOnlySpan<int> prompt, int maxNewTokens, ChooseToken choose, params ReadOnlySpan<int> stopTokens)
    {
        GenerationRequest request = Scheduler.Add(prompt, maxNewTokens, stopTokens);
        request.Tag = choose;
        return request;
    }

    /// <summary>One step: plan, run the model, choose tokens.</summary>
    /// <returns>False if there was nothing to do.</returns>
    public bool Step()
    {
        if (!Scheduler.TryNext(out BatchStep? step)) return false;
        try
        {
            Steps++;
            PeakBlocks = Math.Max(PeakBlocks, Cache.UsedBlocks);
            PeakRequests = Math.Max(PeakRequests, step.Runs.Length);
            ReadOnlySpan<float> logits = _model.Forward(Cache, step.Batch, step.Tokens, step.LogitRows);
            if (_sampled.Length < step.LogitRows.Length) _sampled = new int[step.LogitRows.Length];
            foreach (ScheduledRun run in step.Runs)
            {
                if (!run.NeedsLogits) continue;
                var choose = (ChooseToken)run.Request.Tag!;
                _sampled[run.LogitIndex] = choose(run.Request, logits.Slice(run.LogitIndex * _model.Config.Vocabulary, _model.Config.Vocabulary));
            }
        }
        catch
        {
            Scheduler.Abandon();
            throw;
        }

        Scheduler.Complete(_sampled.AsSpan(0, step.LogitRows.Length));
        return true;
    }

    /// <summary>Steps until every request has ended.</summary>
    public void RunToEnd(CancellationToken cancellation = default)
    {
        while (Step()) cancellation.ThrowIfCancellationRequested();
    }

    public void Dispose()
    {
        Scheduler.Dispose();
        Cache.Dispose();
    }
}
