using System.Runtime.InteropServices;

namespace FusedAttention.Serving;

/// <summary>
/// What one step of the model runs: tokens of many requests packed row after row, decoding and chunks of prompts mixed. The cache has room for all of them already.
/// Made again and again by <see cref="BatchScheduler.Next"/>; valid until the step is completed or abandoned.
/// </summary>
/// <remarks>For each layer: <c>cache.Write(layer, step.Batch, keys, values)</c>, then <c>Attention.ForwardPaged(query, output, cache, layer, step.Batch)</c>.</remarks>
public sealed class BatchStep
{
    private readonly List<ScheduledRun> _runs = [];
    private readonly List<int> _tokens = [];
    private readonly List<int> _logitRows = [];
    private readonly List<CacheSequence> _sequences = [];
    private readonly List<int> _counts = [];

    internal BatchStep(PagedBatch batch) => Batch = batch;

    /// <summary>Whether there is nothing to run.</summary>
    public bool IsEmpty => _runs.Count == 0;

    /// <summary>Which request has which rows.</summary>
    public ReadOnlySpan<ScheduledRun> Runs => CollectionsMarshal.AsSpan(_runs);

    /// <summary>The tokens, one a row.</summary>
    public ReadOnlySpan<int> Tokens => CollectionsMarshal.AsSpan(_tokens);

    /// <summary>The rows after which a token is to be sampled, ascending; the others need no logits.</summary>
    public ReadOnlySpan<int> LogitRows => CollectionsMarshal.AsSpan(_logitRows);

    /// <summary>The sequences of the runs, in the same order, as <c>Write</c> and <c>ForwardPaged</c> take them.</summary>
    public PagedBatch Batch { get; }

    internal ReadOnlySpan<CacheSequence> Sequences => CollectionsMarshal.AsSpan(_sequences);

    internal ReadOnlySpan<int> Counts => CollectionsMarshal.AsSpan(_counts);

    internal void Add(GenerationRequest request, int tokens)
    {
        int row = _tokens.Count;
        bool isLast = tokens == request.Uncomputed;
        _runs.Add(new(request, request.Sequence, request.Computed, tokens, row, isLast ? _logitRows.Count : -1));
        _sequences.Add(request.Sequence);
        _counts.Add(tokens);
        _tokens.AddRange(request.Tokens.Slice(request.Computed, tokens));
        if (isLast) _logitRows.Add(row + tokens - 1);
    }

    internal void Clear()
    {
        _runs.Clear();
        _tokens.Clear();
        _logitRows.Clear();
        _sequences.Clear();
        _counts.Clear();
        Batch.Clear();
    }
}
