using System.Diagnostics.Metrics;
using FusedAttention.Samples.Server.Engine;
using FusedAttention.Serving;

namespace FusedAttention.Samples.Server.Diagnostics;

/// <summary>
/// What is to be seen of the server: a <see cref="Meter"/>, so any OpenTelemetry exporter takes it by its name, <c>AddMeter("FusedAttention.Server", "FusedAttention")</c>. The second one is the library's.
/// </summary>
internal sealed class ServerMetrics : IDisposable
{
    public const string MeterName = "FusedAttention.Server";

    private readonly Meter _meter;
    private readonly Counter<long> _requests;
    private readonly Counter<long> _refused;
    private readonly Counter<long> _promptTokens;
    private readonly Counter<long> _generatedTokens;
    private readonly Counter<long> _stepTokens;
    private readonly Histogram<double> _timeToFirstToken;
    private readonly Histogram<double> _stepDuration;

    public ServerMetrics(IMeterFactory factory)
    {
        _meter = factory.Create(MeterName);
        _requests = _meter.CreateCounter<long>("server.requests.ended", "{request}", "Requests that have ended, by their reason.");
        _refused = _meter.CreateCounter<long>("server.requests.refused", "{request}", "Calls that were not taken on, by the reason.");
        _promptTokens = _meter.CreateCounter<long>("server.tokens.prompt", "{token}", "Tokens of prompts.");
        _generatedTokens = _meter.CreateCounter<long>("server.tokens.generated", "{token}", "Tokens of answers: their rate is the tokens per second.");
        _stepTokens = _meter.CreateCounter<long>("server.tokens.computed", "{token}", "Tokens that steps have run.");
        _timeToFirstToken = _meter.CreateHistogram("server.time_to_first_token", "s", "From the call to its first token.", advice: new InstrumentAdvice<double> { HistogramBucketBoundaries = [0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30] });
        _stepDuration = _meter.CreateHistogram("server.step.duration", "s", "A step of the model.", advice: new InstrumentAdvice<double> { HistogramBucketBoundaries = [0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1] });
    }

    /// <summary>Shows the queue and the pool.</summary>
    public void Observe(BatchScheduler scheduler, KeyValueCache cache)
    {
        _meter.CreateObservableGauge("server.requests.waiting", () => scheduler.WaitingCount, "{request}", "Requests in the queue.");
        _meter.CreateObservableGauge("server.requests.running", () => scheduler.RunningCount, "{request}", "Requests that hold blocks.");
        _meter.CreateObservableGauge("server.cache.blocks.used", () => cache.UsedBlocks, "{block}", "Blocks in use.");
        _meter.CreateObservableGauge("server.cache.blocks.total", () => cache.Options.Blocks, "{block}", "Blocks of the pool.");
        _meter.CreateObservableCounter("server.requests.preempted", () => scheduler.Preemptions, "{request}", "How often a request was put back because the pool was full.");
        _meter.CreateObservableCounter("server.tokens.shared", () => scheduler.SharedTokens, "{token}", "Tokens of prompts that were found in the cache.");
    }

    public void Started(CompletionGroup group)
    {
        foreach (GenerationRequest request in group.Requests)
        {
            _promptTokens.Add(request.PromptLength);
            _ = request.Completion.ContinueWith(
                ended => _requests.Add(1, new KeyValuePair<string, object?>("reason", ended.Result.ToString())),
                CancellationToken.None,
                TaskContinuationOptions.ExecuteSynchronously,
                TaskScheduler.Default);
        }
    }

    public void Refused(RequestRefusal refusal) => _refused.Add(1, new KeyValuePair<string, object?>("reason", refusal.ToString()));

    /// <param name="tokens">How many tokens have come of a request.</param>
    /// <param name="sinceCall">How long it took, if they are its first.</param>
    public void Generated(int tokens, TimeSpan? sinceCall)
    {
        _generatedTokens.Add(tokens);
        if (sinceCall is { } time) _timeToFirstToken.Record(time.TotalSeconds);
    }

    public void Stepped(int tokens, TimeSpan duration)
    {
        _stepTokens.Add(tokens);
        _stepDuration.Record(duration.TotalSeconds);
    }

    public void Dispose() => _meter.Dispose();
}
