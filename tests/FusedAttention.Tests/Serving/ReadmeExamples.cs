using System.Numerics.Tensors;
using FusedAttention.Serving;
using Xunit;

namespace FusedAttention.Tests.Serving;

/// <summary>The examples of docs/serving.md but for the first: each stands there word for word, and runs here against the counting model.</summary>
public sealed class ReadmeExamples
{
    [Fact]
    public void ServingModel()
    {
        using var tokensCache = new PagedKeyValueCache<Half>(new() { Blocks = 20, BlockSize = 4, KeyValueHeads = 1, KeyDim = 8, Layers = 2 });
        using BatchScheduler scheduler = BatchScheduler.Create(tokensCache);
        GenerationRequest first = scheduler.Add([1, 2, 3], 4), second = scheduler.Add([4, 5], 4);
        var model = new ExampleModel();
        while (scheduler.TryNext(out BatchStep? step)) scheduler.Complete(model.Run(tokensCache, step));
        Assert.Equal((4, 4), (first.GeneratedTokens.Length, second.GeneratedTokens.Length));
        Assert.All(first.GeneratedTokens.ToArray(), static token => Assert.Equal(0, token));
    }

    [Fact]
    public async Task ServingRequest()
    {
        using var model = new CountingModel(blocks: 40, blockSize: 4, new() { MaxWaitingRequests = 1 });
        BatchScheduler scheduler = model.Scheduler;
        int[] promptTokens = [1, 2, 3, 4];
        const int EndToken = 77;
        string session = "42";

        // README: ServingRequest
        var options = new GenerationOptions
        {
            MaxNewTokens = 100,
            StopTokens = [EndToken],
            Priority = 1,                                       // before those with 0
            TimeLimit = TimeSpan.FromSeconds(30),
            PrefixIdentity = "adapter 7, tenant 12",            // shares prompts with its like only
            Tag = session,                                      // yours, found again at request.Tag
        };
        RequestRefusal refusal = scheduler.TryAdd(promptTokens, options, out GenerationRequest? request);
        if (refusal == RequestRefusal.QueueFull) Console.WriteLine("Try again later: 429");
        // README: end
        Assert.Equal((RequestRefusal.None, (object)session), (refusal, request!.Tag!));
        model.RunToEnd();

        // README: ServingEnd
        FinishReason reason = await request.Completion;         // Stop, Length, Cancelled or DeadlineExceeded
        int[] text = request.GeneratedTokens.ToArray();
        // README: end
        Assert.Equal((FinishReason.Length, 100), (reason, text.Length));
    }

    [Fact]
    public void ServingSamples()
    {
        using var model = new CountingModel(blocks: 100, blockSize: 16);
        BatchScheduler scheduler = model.Scheduler;
        int[] promptTokens = [.. Enumerable.Range(0, 40)];

        // README: ServingSamples
        GenerationRequest first = scheduler.Add(promptTokens, maxNewTokens: 50);
        GenerationRequest[] samples = [first, scheduler.Fork(first), scheduler.Fork(first)];
        // README: end
        model.RunToEnd();
        Assert.Equal([0L, 39, 39], samples.Select(static sample => sample.SharedTokens));

        // README: ServingPrompt
        scheduler.Add(promptTokens, maxNewTokens: 0);                                                           // fills the cache for those that begin like it
        scheduler.Add(promptTokens, new GenerationOptions { MaxNewTokens = 0, PromptLogits = true });           // a logit row for each token of the prompt
        // README: end
        int rows = 0;
        while (scheduler.TryNext(out BatchStep? step))
        {
            rows += step.LogitRows.Length;
            scheduler.Complete(model.Run(step));
        }

        Assert.Equal(40, rows);
    }

    [Fact]
    public void ServingDrafts()
    {
        using var model = new CountingModel(blocks: 100, blockSize: 16);
        BatchScheduler scheduler = model.Scheduler;
        GenerationRequest request = scheduler.Add([1, 2, 3], 20);
        model.Step();
        int[] draftTokens = CountingModel.Continue(request.Tokens, 3);

        // README: ServingDrafts
        scheduler.Propose(request, draftTokens);                                    // a line: each follows the one before
        if (scheduler.TryNext(out BatchStep? step))
        {
            int[] sampledTokens = model.Run(step);                                  // one after each of step.LogitRows: after the last token, and after each draft
            scheduler.Complete(sampledTokens);                                      // keeps the drafts that were sampled, and one token more
        }

        // README: end
        Assert.Equal(1 + 3 + 1, request.GeneratedTokens.Length);
        int[] next = CountingModel.Continue(request.Tokens, 2);

        var causal = new AttentionOptions { Mask = AttentionMask.Causal };

        // README: ServingTree
        int[] tree = [next[0], next[1], 3, 4];
        scheduler.Propose(request, tree, parents: [-1, 0, -1, 2]);                  // 3 and next[0] both follow the last token
        if (scheduler.TryNext(out step) && step.HasTrees)
        {
            AttentionOptions options = causal with { MaskFunction = step.CreateTreeMask() }; // for ForwardPaged in all layers of this step; positions are step.Positions
            scheduler.Complete(model.Run(step));
        }

        // README: end
        Assert.Equal(5 + 3, request.GeneratedTokens.Length);
        Assert.Equal(CountingModel.Continue([1, 2, 3], 8), request.GeneratedTokens.ToArray());
    }

    [Fact]
    public void ServingWeights()
    {
        int version = 1;
        using var model = new CountingModel(blocks: 100, blockSize: 16) { Weights = _ => version };
        BatchScheduler scheduler = model.Scheduler;
        GenerationRequest request = scheduler.Add([1, 2, 3], 20);
        model.Step();

        // README: ServingWeights
        scheduler.Pause();                          // from any thread: no step is planned any more
        LoadNewWeights();                           // when the step under way has been completed
        scheduler.Resume(recompute: true);          // what was computed is forgotten; requests go on from their tokens
        // README: end
        model.RunToEnd();
        Assert.Equal(20, request.GeneratedTokens.Length);

        void LoadNewWeights() => version = 2;
    }

    [Fact]
    public void ServingSave()
    {
        using var model = new CountingModel(blocks: 100, blockSize: 4);
        PagedKeyValueCache<float> cache = model.Cache;
        BatchScheduler scheduler = model.Scheduler;
        GenerationRequest request = scheduler.Add([1, 2, 3, 4, 5], 20);
        model.RunToEnd();
        using var file = new MemoryStream();

        // README: ServingSave
        CacheSequence kept = cache.CreateSequence(request.Tokens, out int keptTokens);      // what the cache still has of a conversation
        cache.Save(kept, file);
        cache.Free(kept);
        // README: end
        int[] tokens = request.Tokens.ToArray();
        Assert.Equal(24, keptTokens);
        cache.ForgetPrefixes();
        file.Position = 0;

        // README: ServingLoad
        CacheSequence loaded = cache.Load(file);                                            // another day, another machine
        cache.Publish(loaded, tokens.AsSpan(0, keptTokens));
        cache.Free(loaded);
        GenerationRequest next = scheduler.Add(tokens, maxNewTokens: 20);                   // starts with what was loaded
        // README: end
        model.RunToEnd();
        Assert.Equal((24, 20), (next.SharedTokens, next.GeneratedTokens.Length));
    }

    /// <summary>The shape of a model: projections are left out, attention is not.</summary>
    private sealed class ExampleModel
    {
        private const int Heads = 2, Dim = 8;

        private readonly AttentionOptions _causal = new() { Mask = AttentionMask.Causal };

        // README: ServingModel
        public int[] Run(PagedKeyValueCache<Half> cache, BatchStep step)
        {
            float[] x = Embed(step.Tokens, step.Positions);                                     // a row a token, of all requests
            for (int layer = 0; layer < cache.Options.Layers; layer++)
            {
                (Tensor<float> query, Tensor<float> keys, Tensor<float> values) = Project(layer, x);
                cache.Write(layer, step.Batch, keys, values);
                Tensor<float> attended = Tensor.CreateFromShape<float>([step.Tokens.Length, Heads, Dim]);
                Attention.ForwardPaged(query, attended, cache, layer, step.Batch, _causal);
                x = FeedForward(layer, attended);
            }

            int[] sampled = new int[step.LogitRows.Length];
            foreach (ScheduledRun run in step.Runs)
                for (int i = run.LogitIndex; i < run.LogitIndex + run.LogitCount; i++) sampled[i] = Sample(run.Request, Logits(x, step.LogitRows[i]));
            return sampled;
        }

        // README: end
        private static float[] Embed(ReadOnlySpan<int> tokens, ReadOnlySpan<int> positions) => new float[Math.Min(tokens.Length, positions.Length) * Heads * Dim];

        private static (Tensor<float> Query, Tensor<float> Keys, Tensor<float> Values) Project(int layer, float[] x)
        {
            int rows = x.Length / (Heads * Dim);
            return (Tensor.CreateFromShape<float>([rows, Heads, Dim]), Tensor.CreateFromShape<float>([rows, 1, Dim]), Tensor.CreateFromShape<float>([rows, 1, Dim]));
        }

        private static float[] FeedForward(int layer, Tensor<float> attended) => new float[attended.FlattenedLength];

        private static float[] Logits(float[] x, int row) => [x[row], -1];

        private static int Sample(GenerationRequest request, float[] logits) => request.HasEnded ? -1 : TensorPrimitives.IndexOfMax<float>(logits);
    }
}
