using System.Diagnostics;
using System.Threading.Channels;
using FusedAttention.Samples.TextGeneration;
using FusedAttention.Serving;

namespace FusedAttention.Samples.Server.Engine;

/// <summary>A token of one of the texts of a call, or, with <paramref name="End"/>, that there are no more.</summary>
internal readonly record struct CompletionEvent(int Choice, int Token, FinishReason End);

/// <summary>How the tokens of a call are chosen.</summary>
internal sealed record SamplingOptions(double Temperature, double TopP, int Seed);

/// <summary>The texts of one call, on their way from the thread of the model to whoever answers.</summary>
/// <remarks>The channel has no bound of its own: a call has as many events as tokens were asked for.</remarks>
internal sealed class CompletionGroup
{
    private readonly Channel<CompletionEvent> _events = Channel.CreateUnbounded<CompletionEvent>(new() { SingleReader = true });
    private readonly List<GenerationRequest> _requests = [];

    /// <summary>One a text.</summary>
    public IReadOnlyList<GenerationRequest> Requests => _requests;

    public ChannelReader<CompletionEvent> Events => _events.Reader;

    /// <summary>Binds a request to the next text. The thread of the model may run it from now on.</summary>
    public void Add(GenerationRequest request)
    {
        int choice = _requests.Count;
        _requests.Add(request);

        // Who is cancelled, or out of time, has no step that could say so.
        _ = request.Completion.ContinueWith(
            ended =>
            {
                if (ended.Result is FinishReason.Cancelled or FinishReason.DeadlineExceeded) Write(new(choice, -1, ended.Result));
            },
            CancellationToken.None,
            TaskContinuationOptions.ExecuteSynchronously,
            TaskScheduler.Default);
    }

    public void Write(CompletionEvent what) => _events.Writer.TryWrite(what);
}

/// <summary>What a request carries through the scheduler: where its tokens go, and how they are chosen.</summary>
internal sealed class CompletionTag(CompletionGroup group, int choice, SamplingOptions sampling)
{
    private readonly Sampler _sampler = new(sampling.Temperature, sampling.TopP, sampling.Seed + choice);
    private readonly long _calledAt = Stopwatch.GetTimestamp();
    private int _delivered;

    public bool HasDelivered => _delivered > 0;

    public TimeSpan SinceCall => Stopwatch.GetElapsedTime(_calledAt);

    public int Choose(ReadOnlySpan<float> logits) => _sampler.Choose(logits);

    /// <summary>Sends what has come since the last time.</summary>
    /// <returns>How many tokens.</returns>
    public int Deliver(GenerationRequest request)
    {
        ReadOnlySpan<int> fresh = request.GeneratedTokens[_delivered..];
        _delivered += fresh.Length;
        foreach (int token in fresh) group.Write(new(choice, token, FinishReason.None));
        if (request.FinishReason is FinishReason.Stop or FinishReason.Length) group.Write(new(choice, -1, request.FinishReason));
        return fresh.Length;
    }
}
