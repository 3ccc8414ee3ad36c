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
    private readonly List<int> _positions = [];
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

    /// <summary>
    /// The position of each row's token in its text, as a rotation or a learned embedding needs it. It is its place in the sequence, but for drafts of a tree: alternatives have one position, and places of their own.
    /// </summary>
    public ReadOnlySpan<int> Positions => CollectionsMarshal.AsSpan(_positions);

    /// <summary>The rows after which a token is to be sampled, ascending; the others need no logits.</summary>
    public ReadOnlySpan<int> LogitRows => CollectionsMarshal.AsSpan(_logitRows);

    /// <summary>The sequences of the runs, in the same order, as <c>Write</c> and <c>ForwardPaged</c> take them.</summary>
    public PagedBatch Batch { get; }

    /// <summary>Whether drafts are among the rows that are no line, so that a causal mask lets them see too much: <see cref="CreateTreeMask"/> has the one to add, and <see cref="CopyTreeMask"/> for backends that refuse functions.</summary>
    public bool HasTrees { get; private set; }

    internal ReadOnlySpan<CacheSequence> Sequences => CollectionsMarshal.AsSpan(_sequences);

    internal ReadOnlySpan<int> Counts => CollectionsMarshal.AsSpan(_counts);

    /// <summary>
    /// The mask for <see cref="AttentionOptions.MaskFunction"/>, beside the causal one: a draft sees the drafts that it follows, itself, and all that is no draft. Its size is that of the step's rows by the most drafts of one of its
    /// requests, whatever the context; it is made anew for each step, for all layers. Null where <see cref="HasTrees"/> is false.
    /// </summary>
    /// <remarks>
    /// Keys are told apart by their places. ALiBi and windows go by places too, so for alternatives they are off by some tokens: trees are for models whose positions are rotations or embeddings (<see cref="Positions"/>).
    /// </remarks>
    public MaskFunction? CreateTreeMask()
    {
        if (!HasTrees) return null;
        int width = 0;
        foreach (ScheduledRun run in _runs) width = Math.Max(width, run.DraftCount);
        bool[] mask = new bool[_tokens.Count * width];
        FillTreeMask(mask, width, run => width - run.DraftCount);
        PagedSequences sequences = Batch.Sequences;
        return MaskFunction.Of(new NewTokenMask(mask, width, sequences.CumulativeQueryLengths, sequences.ContextLengths));
    }

    /// <summary>
    /// Writes the mask of <see cref="CreateTreeMask"/> as <see cref="AttentionOperands.BooleanMask"/> has it, over all keys: for backends that refuse functions.
    /// </summary>
    /// <param name="mask"><c>[Tokens.Length, Batch.MaxContextLength]</c>.</param>
    /// <exception cref="ArgumentException">It has another length.</exception>
    public void CopyTreeMask(Span<bool> mask)
    {
        int keys = Batch.MaxContextLength;
        if (mask.Length != (long)_tokens.Count * keys)
            throw new ArgumentException($"The mask has {mask.Length} elements, but must have {_tokens.Count} rows of {keys} keys.", nameof(mask));
        FillTreeMask(mask, keys, static run => run.Position + run.KnownCount);
    }

    internal void Add(GenerationRequest request)
    {
        int row = _tokens.Count, known = request.Granted, drafts = request.GrantedDrafts;
        int logits = CountLogits(request) + drafts;
        _runs.Add(new(request, request.Sequence, request.Computed, known + drafts, row, logits > 0 ? _logitRows.Count : -1, logits, drafts));
        _sequences.Add(request.Sequence);
        _counts.Add(known + drafts);
        _tokens.AddRange(request.Tokens.Slice(request.Computed, known));
        for (int i = 0; i < known; i++) _positions.Add(request.Computed + i);
        if (drafts > 0) AddDrafts(request, drafts);
        for (int i = known + drafts - logits; i < known + drafts; i++) _logitRows.Add(row + i);
    }

    internal void Clear()
    {
        _runs.Clear();
        _tokens.Clear();
        _positions.Clear();
        _logitRows.Clear();
        _sequences.Clear();
        _counts.Clear();
        HasTrees = false;
        Batch.Clear();
    }

    /// <summary>How many of a request's known rows need logits: its last ones.</summary>
    private static int CountLogits(GenerationRequest request)
    {
        if (request.OwesPromptLogits) return Math.Clamp(request.Computed + request.Granted - request.PromptLogitsGiven, 0, request.Granted);
        return request.Granted == request.Uncomputed && request.MaxNewTokens > 0 ? 1 : 0;
    }

    /// <summary>True but for the drafts that a draft does not follow, in rows of <paramref name="width"/> whose column of a run's first draft is <paramref name="firstDraft"/>.</summary>
    private void FillTreeMask(Span<bool> mask, int width, Func<ScheduledRun, int> firstDraft)
    {
        mask.Fill(true);
        foreach (ScheduledRun run in _runs)
        {
            if (run.DraftCount == 0) continue;
            DraftTree drafts = run.Request.Drafts!;
            for (int draft = 0; draft < run.DraftCount; draft++)
            {
                Span<bool> row = mask.Slice((run.FirstRow + run.KnownCount + draft) * width, width).Slice(firstDraft(run), run.DraftCount);
                row.Clear();
                for (int seen = draft; seen != DraftTree.Root; seen = drafts.Parent(seen)) row[seen] = true;
            }
        }
    }

    private void AddDrafts(GenerationRequest request, int count)
    {
        DraftTree drafts = request.Drafts!;
        HasTrees |= !drafts.IsLine;
        int last = request.Tokens.Length - 1;
        _tokens.AddRange(drafts.Tokens[..count]);
        for (int i = 0; i < count; i++) _positions.Add(last + drafts.Depth(i));
    }
}
