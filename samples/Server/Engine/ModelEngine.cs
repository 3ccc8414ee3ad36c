using System.Collections.Immutable;
using System.Diagnostics;
using FusedAttention.Samples.Server.Diagnostics;
using FusedAttention.Samples.TextGeneration.Devices;
using FusedAttention.Samples.TextGeneration.Loading;
using FusedAttention.Samples.TextGeneration.Model;
using FusedAttention.Samples.TextGeneration.Tokens;
using FusedAttention.Serving;
using Microsoft.Extensions.Options;

namespace FusedAttention.Samples.Server.Engine;

/// <summary>The model, its cache and its scheduler; and the one thread that runs the steps of all calls.</summary>
internal sealed partial class ModelEngine : IHostedService, IDisposable
{
    private readonly IAttentionDevice _device;
    private readonly LanguageModel _model;
    private readonly KeyValueCache _cache;
    private readonly BatchScheduler _scheduler;
    private readonly ServerMetrics _metrics;
    private readonly ILogger<ModelEngine> _log;
    private readonly IHostApplicationLifetime _lifetime;
    private readonly TimeSpan _timeLimit;
    private readonly Thread _thread;
    private readonly CancellationTokenSource _stopping = new();
    private readonly TaskCompletionSource _ended = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private int[] _sampled = [];
    private bool _isDisposed;

    public ModelEngine(IOptions<ServerOptions> options, ServerMetrics metrics, ILogger<ModelEngine> log, IHostApplicationLifetime lifetime)
    {
        ServerOptions server = options.Value;
        LoadedModel loaded = ModelFolder.Load(server.Model);
        Name = loaded.Name;
        Tokenizer = loaded.Tokenizer;

        // Row-invariant: a text is the same alone and in company, so the same seed gives the same answer on a busy server.
        _device = AttentionDevices.Open($"{ServerOptions.Section}:{nameof(server.Backend)}", server.Backend, server.Threads);
        _model = new(loaded.Weights, server.Threads, rowInvariant: true, _device);
        _cache = _model.CreateCache(server.Cache, server.Blocks, server.BlockSize);
        _scheduler = BatchScheduler.Create(_cache, new()
        {
            MaxTokensPerStep = server.MaxTokensPerStep,
            MaxRunningRequests = server.MaxRunningRequests,
            MaxWaitingRequests = server.MaxWaitingRequests,
        });
        _timeLimit = server.TimeLimit;
        _metrics = metrics;
        _metrics.Observe(_scheduler, _cache);
        _log = log;
        _lifetime = lifetime;
        _thread = new(Run) { Name = "model", IsBackground = true };
    }

    public string Name { get; }

    public ITokenizer Tokenizer { get; }

    public int Vocabulary => _model.Config.Vocabulary;

    /// <summary>Whether steps are run, or will be when a request comes.</summary>
    public bool IsAlive => _thread.IsAlive;

    /// <summary>Takes on a call: one prompt, several texts of it.</summary>
    /// <returns>Why it was refused, if it was: then nothing of it runs.</returns>
    public RequestRefusal TryStart(ReadOnlySpan<int> prompt, GenerationOptions options, SamplingOptions sampling, int choices, out CompletionGroup group)
    {
        group = new();
        options = options with { TimeLimit = _timeLimit, StopTokens = Tokenizer.EndToken is int end ? [end] : [] };
        for (int choice = 0; choice < choices; choice++)
        {
            // The first one computes the prompt; the scheduler lets the others wait for that and share it.
            var tag = new CompletionTag(group, choice, sampling);
            RequestRefusal refusal = _scheduler.TryAdd(prompt, options with { Tag = tag }, out GenerationRequest? request);
            if (request is not null)
            {
                group.Add(request);
                continue;
            }

            Cancel(group);
            _metrics.Refused(refusal);
            return refusal;
        }

        _metrics.Started(group);
        return RequestRefusal.None;
    }

    /// <summary>Ends what is left of a call: nobody reads it any more.</summary>
    public void Cancel(CompletionGroup group)
    {
        foreach (GenerationRequest request in group.Requests) _scheduler.Cancel(request);
    }

    public bool Cancel(GenerationRequest request) => _scheduler.Cancel(request);

    /// <summary>Refuses new calls; those that are there go on.</summary>
    public void StopAccepting() => _scheduler.StopAccepting();

    public Task StartAsync(CancellationToken cancellationToken)
    {
        _thread.Start();
        return Task.CompletedTask;
    }

    /// <summary>Waits for the calls that are there, as long as the host lets it.</summary>
    public async Task StopAsync(CancellationToken cancellationToken)
    {
        _scheduler.StopAccepting();
        await Task.WhenAny(_ended.Task, Task.Delay(Timeout.Infinite, cancellationToken)).ConfigureAwait(false);
    }

    public void Dispose()
    {
        if (_isDisposed) return;
        _isDisposed = true;

        // Disposing of the scheduler ends the loop; the cache goes when no step uses it any more.
        _scheduler.StopAccepting();
        _stopping.Cancel();
        if (_thread.IsAlive) _thread.Join();
        _scheduler.Dispose();
        _cache.Dispose();
        _device.Dispose();
        _stopping.Dispose();
    }

    private void Run()
    {
        try
        {
            // A thread of its own, which blocks: a step is long, and the pool's threads are for those who answer.
            while (_scheduler.WaitForWorkAsync(_stopping.Token).GetAwaiter().GetResult())
            {
                if (_scheduler.TryNext(out BatchStep? step)) RunStep(step);
                _stopping.Token.ThrowIfCancellationRequested();
            }
        }
        catch (OperationCanceledException)
        {
        }
        catch (Exception e)
        {
            LogFailure(e);
            _scheduler.Dispose();
            _lifetime.StopApplication();
        }
        finally
        {
            _ended.TrySetResult();
        }
    }

    private void RunStep(BatchStep step)
    {
        long start = Stopwatch.GetTimestamp();
        int rows = step.Tokens.Length;
        ImmutableArray<GenerationRequest> requests = [.. step.Runs.ToArray().Select(static run => run.Request)];
        try
        {
            Sample(step, _model.Forward(_cache, step.Batch, step.Tokens, step.LogitRows));
        }
        catch
        {
            _scheduler.Abandon();
            throw;
        }

        _scheduler.Complete(_sampled.AsSpan(0, step.LogitRows.Length));
        foreach (GenerationRequest request in requests)
        {
            var tag = (CompletionTag)request.Tag!;
            bool isFirst = !tag.HasDelivered;
            int tokens = tag.Deliver(request);
            if (tokens > 0) _metrics.Generated(tokens, isFirst ? tag.SinceCall : null);
        }

        _metrics.Stepped(rows, Stopwatch.GetElapsedTime(start));
    }

    private void Sample(BatchStep step, ReadOnlySpan<float> logits)
    {
        int vocabulary = _model.Config.Vocabulary;
        if (_sampled.Length < step.LogitRows.Length) _sampled = new int[step.LogitRows.Length];
        foreach (ScheduledRun run in step.Runs)
            if (run.NeedsLogits) _sampled[run.LogitIndex] = ((CompletionTag)run.Request.Tag!).Choose(logits.Slice(run.LogitIndex * vocabulary, vocabulary));
    }

    [LoggerMessage(Level = LogLevel.Critical, Message = "The model failed; the server stops.")]
    private partial void LogFailure(Exception e);
}
