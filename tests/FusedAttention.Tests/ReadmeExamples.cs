using System.Numerics.Tensors;
using FusedAttention.Serving;
using Xunit;

namespace FusedAttention.Tests;

/// <summary>
/// The examples of the README: the lines between two markers of this file stand there word for word, under a comment that names them
/// (the tests of the guides compare). Here they are compiled, run, and checked.
/// </summary>
public sealed class ReadmeExamples
{
    [Fact]
    public void Prefill()
    {
        // README: Prefill
        // 2 sequences of 512 tokens, 8 query heads that share 2 key/value heads, 64 dimensions a head: [batch, token, head, dim].
        var query = Tensor.CreateFromShape<float>([2, 512, 8, 64]);
        var key = Tensor.CreateFromShape<float>([2, 512, 2, 64]);
        var value = Tensor.CreateFromShape<float>([2, 512, 2, 64]);
        var output = Tensor.CreateFromShape<float>([2, 512, 8, 64]);

        Attention.Forward(query, key, value, output, new AttentionOptions { Mask = AttentionMask.Causal });
        // README: end
        value.Fill(3);
        Attention.Forward(query, key, value, output, new AttentionOptions { Mask = AttentionMask.Causal });
        Assert.Equal(3, output[1, 511, 7, 63], 1e-6f);
    }

    [Fact]
    public void HeadMajor()
    {
        // README: HeadMajor
        // [batch, head, token, dim], as PyTorch, TorchSharp and ONNX have it: 2 sequences, 8 query heads over 2, 16 tokens, 64 dimensions. The outputs come in the same order.
        float[] query = new float[2 * 8 * 16 * 64], key = new float[2 * 2 * 16 * 64], value = new float[2 * 2 * 16 * 64], output = new float[2 * 8 * 16 * 64];
        AttentionStrides ofQueries = AttentionStrides.HeadMajor(heads: 8, tokens: 16, dim: 64), ofKeys = AttentionStrides.HeadMajor(heads: 2, tokens: 16, dim: 64);
        var shape = new AttentionShape(batch: 2, queryLength: 16, keyLength: 16, queryHeads: 8, keyValueHeads: 2, keyDim: 64)
        {
            QueryStrides = ofQueries, KeyStrides = ofKeys, ValueStrides = ofKeys, OutputStrides = ofQueries,
        };

        Attention.Forward<float, float>(query, key, value, output, shape, new AttentionOptions { Mask = AttentionMask.Causal });
        // README: end
        for (int i = 0; i < query.Length; i++) query[i] = MathF.Sin(i);
        for (int i = 0; i < key.Length; i++) (key[i], value[i]) = (MathF.Cos(3 * i), MathF.Sin(5 * i));
        Attention.Forward<float, float>(query, key, value, output, shape, new AttentionOptions { Mask = AttentionMask.Causal });

        // The same as views of tensors.
        Tensor<float> result = Tensor.CreateFromShape<float>([2, 16, 8, 64]);
        Attention.Forward(
            Tensor.PermuteDimensions(Tensor.Create(query, [2, 8, 16, 64]), [0, 2, 1, 3]), Tensor.PermuteDimensions(Tensor.Create(key, [2, 2, 16, 64]), [0, 2, 1, 3]),
            Tensor.PermuteDimensions(Tensor.Create(value, [2, 2, 16, 64]), [0, 2, 1, 3]), result, new AttentionOptions { Mask = AttentionMask.Causal });
        for (int b = 0; b < 2; b++)
            for (int h = 0; h < 8; h++)
                for (int t = 0; t < 16; t++) Assert.Equal(result[b, t, h, 9], output[(((((b * 8) + h) * 16) + t) * 64) + 9]);
    }

    [Fact]
    public void EightBits()
    {
        // README: EightBits
        // The same over keys and values of 8 bits, a byte a number, with a scale for each token and head.
        float[] newKeys = new float[1000 * 2 * 64], newValues = new float[1000 * 2 * 64];
        float[] query = new float[8 * 64], output = new float[8 * 64], keyScale = new float[4096 * 2], valueScale = new float[4096 * 2];
        sbyte[] key = new sbyte[4096 * 2 * 64], value = new sbyte[4096 * 2 * 64];
        KeyValueQuantization.ToInt8<float>(newKeys, dim: 64, key.AsSpan(0, newKeys.Length), keyScale.AsSpan(0, newKeys.Length / 64));
        KeyValueQuantization.ToInt8<float>(newValues, dim: 64, value.AsSpan(0, newValues.Length), valueScale.AsSpan(0, newValues.Length / 64));
        var shape = new AttentionShape(batch: 1, queryLength: 1, keyLength: 4096, queryHeads: 8, keyValueHeads: 2, keyDim: 64);

        Attention.Forward<float, sbyte>(query, key, value, output, shape, operands: new AttentionOperands
        {
            KeyLengths = [1000],
            KeyScale = new ReadOnlyTensorSpan<float>(keyScale, [4096, 2]),
            ValueScale = new ReadOnlyTensorSpan<float>(valueScale, [4096, 2]),
        });
        // README: end
        Assert.All(output, static x => Assert.Equal(0, x));
        newValues.AsSpan().Fill(3);
        KeyValueQuantization.ToInt8<float>(newValues, dim: 64, value.AsSpan(0, newValues.Length), valueScale.AsSpan(0, newValues.Length / 64));
        var scales = new AttentionOperands { KeyLengths = [1000], KeyScale = new ReadOnlyTensorSpan<float>(keyScale, [4096, 2]), ValueScale = new ReadOnlyTensorSpan<float>(valueScale, [4096, 2]) };
        Attention.Forward<float, sbyte>(query, key, value, output, shape, operands: scales);
        Assert.All(output, static x => Assert.Equal(3, x, 1e-5f));
    }

    [Fact]
    public void Rotary()
    {
        // README: Rotary
        // Llama 3.1's rotary positions, 20 tokens: keys are rotated on their way into the cache, queries in place.
        float[] query = new float[20 * 8 * 64], keys = new float[20 * 2 * 64], values = new float[20 * 2 * 64];
        var rotary = new RotaryEmbedding(new() { HeadDim = 64, Base = 500_000, Scaling = new Llama3RotaryScaling { Factor = 8 } });
        using var cache = new PagedKeyValueCache<Half>(new() { Blocks = 100, BlockSize = 16, KeyValueHeads = 2, KeyDim = 64 });
        CacheSequence sequence = cache.CreateSequence();
        PagedBatch batch = cache.CreateBatch();

        cache.Extend(sequence, 20);
        batch.Add(sequence, 20);
        cache.Write<float>(layer: 0, batch, keys, values, rotary);
        rotary.Apply(query, batch.Positions);
        // README: end
        Assert.All(query, static x => Assert.Equal(0, x));
        query.AsSpan().Fill(1);
        rotary.Apply(query, batch.Positions);
        Assert.Equal(1, query[0]);
        Assert.Equal(Math.Cos(19) - Math.Sin(19), query[19 * 8 * 64], 1e-6);
    }

    [Fact]
    public void Decode()
    {
        // README: Decode
        // One new token of a sequence with 1,000 tokens in a cache that has room for 4,096; float queries over a cache in half precision.
        float[] query = new float[8 * 64];
        Half[] key = new Half[4096 * 2 * 64];
        Half[] value = new Half[4096 * 2 * 64];
        float[] output = new float[8 * 64];
        var shape = new AttentionShape(batch: 1, queryLength: 1, keyLength: 4096, queryHeads: 8, keyValueHeads: 2, keyDim: 64);

        Attention.Forward<float, Half>(query, key, value, output, shape, operands: new AttentionOperands { KeyLengths = [1000] });
        // README: end
        value.AsSpan(0, 1000 * 2 * 64).Fill((Half)2);
        value.AsSpan(1000 * 2 * 64).Fill(Half.NaN);
        Attention.Forward<float, Half>(query, key, value, output, shape, operands: new AttentionOperands { KeyLengths = [1000] });
        Assert.All(output, x => Assert.Equal(2, x, 1e-6f));
    }

    [Fact]
    public void FirstNumbers()
    {
        // README: FirstNumbers
        // Three tokens, one head of two dimensions. Queries of zeros weigh all keys alike, so each token gets the mean of the values up to its own.
        float[] query = new float[3 * 2], key = new float[3 * 2], value = [1, 10, 3, 30, 5, 50], output = new float[3 * 2];
        var shape = new AttentionShape(batch: 1, queryLength: 3, keyLength: 3, queryHeads: 1, keyValueHeads: 1, keyDim: 2);

        Attention.Forward(query, key, value, output, shape, new AttentionOptions { Mask = AttentionMask.Causal });
        Console.WriteLine(string.Join(", ", output)); // 1, 10, 2, 20, 3, 30
        // README: end
        Assert.Equal([1, 10, 2, 20, 3, 30], output);
    }

    [Fact]
    public void VariableLength()
    {
        // README: VariableLength
        // Three sequences of 5, 1 and 10 tokens, packed one after the other without padding.
        var query = Tensor.CreateFromShape<Half>([16, 8, 64]);
        var key = Tensor.CreateFromShape<Half>([16, 2, 64]);
        var value = Tensor.CreateFromShape<Half>([16, 2, 64]);
        var output = Tensor.CreateFromShape<Half>([16, 8, 64]);
        int[] starts = [0, 5, 6, 16];

        var options = new AttentionOptions { Mask = AttentionMask.CausalWindow(128), AlibiSlopes = AlibiSlopes.ForHeads(8) };
        Attention.ForwardVariableLength(query, key, value, output, starts, starts, options);
        // README: end
        value.Fill((Half)4);
        Attention.ForwardVariableLength(query, key, value, output, starts, starts, options);
        Assert.Equal((Half)4, output[15, 7, 63]);
    }

    [Fact]
    public void Paged()
    {
        // README: Paged
        // Caches of 100 blocks of 16 tokens. Sequence 0 decodes one token at length 40; sequence 1 prefills its first 20 tokens.
        var query = Tensor.CreateFromShape<float>([21, 8, 64]);
        var keyCache = Tensor.CreateFromShape<Half>([100, 16, 2, 64]);
        var valueCache = Tensor.CreateFromShape<Half>([100, 16, 2, 64]);
        var output = Tensor.CreateFromShape<float>([21, 8, 64]);
        var sequences = new PagedSequences(
            cumulativeQueryLengths: [0, 1, 21],
            contextLengths: [40, 20],
            blockTables: [7, 3, 99, 12, 0, -1],
            maxBlocksPerSequence: 3);

        Attention.ForwardPaged(query, keyCache, valueCache, output, sequences, new AttentionOptions { Mask = AttentionMask.Causal });
        // README: end
        valueCache.Fill((Half)5);
        Attention.ForwardPaged(query, keyCache, valueCache, output, sequences, new AttentionOptions { Mask = AttentionMask.Causal });
        Assert.Equal(5, output[20, 7, 63], 1e-6f);
    }

    [Fact]
    public void Cache()
    {
        // README: Cache
        // Two sequences get 20 tokens and 1 more, and attend to all that they have; float rows, rounded to the cache's half precision.
        float[] keys = new float[21 * 2 * 64], values = new float[21 * 2 * 64];
        var query = Tensor.CreateFromShape<float>([21, 8, 64]);
        var output = Tensor.CreateFromShape<float>([21, 8, 64]);
        using var cache = new PagedKeyValueCache<Half>(new() { Blocks = 100, BlockSize = 16, KeyValueHeads = 2, KeyDim = 64 });
        CacheSequence[] sequences = [cache.CreateSequence(), cache.CreateSequence()];
        PagedBatch batch = cache.CreateBatch();

        cache.Extend(sequences, [20, 1]);
        batch.Add(sequences, [20, 1]);
        cache.Write(layer: 0, batch, keys, values);
        Attention.ForwardPaged(query, output, cache, layer: 0, batch, new AttentionOptions { Mask = AttentionMask.Causal });
        // README: end
        Array.Fill(values, 3.0001f);
        cache.Write(layer: 0, batch, keys, values);
        Attention.ForwardPaged(query, output, cache, layer: 0, batch, new AttentionOptions { Mask = AttentionMask.Causal });
        Assert.All(output.ToArray(), static x => Assert.Equal(3, x, 1e-6f));
    }

    [Fact]
    public void ScoreFunctions()
    {
        // README: ScoreFunctions
        // Two documents of 10 and 6 tokens in one sequence that do not see each other, and a temperature for each of 2 heads. No mask is stored, and tiles that it would empty are not read.
        float[] query = new float[16 * 2 * 64], key = new float[16 * 2 * 64], value = new float[16 * 2 * 64], output = new float[16 * 2 * 64];
        var shape = new AttentionShape(batch: 1, queryLength: 16, keyLength: 16, queryHeads: 2, keyValueHeads: 2, keyDim: 64);
        int[] documents = [.. Enumerable.Repeat(0, 10), .. Enumerable.Repeat(1, 6)];

        Attention.Forward<float, float>(query, key, value, output, shape, new AttentionOptions
        {
            Mask = AttentionMask.Causal,
            ScoreFunction = ScoreFunction.Of(new HeadTemperature(new ScoreTable([1, 0.5f]))),
            MaskFunction = MaskFunction.Of(new DocumentMask(documents)),
        });
        // README: end
        for (int i = 0; i < query.Length; i++) (query[i], key[i], value[i]) = (MathF.Sin(i), MathF.Cos(3 * i), MathF.Sin(5 * i));
        var options = new AttentionOptions
        {
            Mask = AttentionMask.Causal, ScoreFunction = ScoreFunction.Of(new HeadTemperature(new ScoreTable([1, 0.5f]))), MaskFunction = MaskFunction.Of(new DocumentMask(documents)),
        };
        Attention.Forward<float, float>(query, key, value, output, shape, options);

        // The second document alone, with the queries of head 1 halved.
        const int Token = 2 * 64;
        float[] halved = query[(10 * Token)..], alone = new float[6 * Token];
        for (int i = 0; i < halved.Length; i++)
            if (i % Token >= 64) halved[i] /= 2;
        Attention.Forward<float, float>(halved, key.AsSpan(10 * Token), value.AsSpan(10 * Token), alone, new AttentionShape(1, 6, 6, 2, 2, 64), new AttentionOptions { Mask = AttentionMask.Causal });
        for (int i = 0; i < alone.Length; i++) Assert.Equal(alone[i], output[(10 * Token) + i], 1e-6f);
    }

    [Fact]
    public void DecodeLoop()
    {
        // README: DecodeLoop
        // A prompt of 100 tokens in one step, then 20 tokens, a step each: 4 layers, 8 query heads over 2.
        using var cache = new PagedKeyValueCache<Half>(new() { Blocks = 100, BlockSize = 16, Layers = 4, KeyValueHeads = 2, KeyDim = 64 });
        CacheSequence sequence = cache.CreateSequence();
        PagedBatch batch = cache.CreateBatch();
        var causal = new AttentionOptions { Mask = AttentionMask.Causal };
        for (int newTokens = 100; cache.GetLength(sequence) < 120; newTokens = 1)
        {
            cache.Extend(sequence, newTokens);
            batch.Clear();
            batch.Add(sequence, newTokens);
            for (int layer = 0; layer < 4; layer++)
            {
                Tensor<float> query = Project(newTokens, 8), key = Project(newTokens, 2), value = Project(newTokens, 2), output = Project(newTokens, 8);
                cache.Write(layer, batch, key, value);
                Attention.ForwardPaged(query, output, cache, layer, batch, causal); // each token sees the cache as far as itself
            }
        }

        static Tensor<float> Project(int tokens, int heads) => Tensor.CreateFromShape<float>([tokens, heads, 64]); // the model's products stand here
        // README: end
        Assert.Equal(120, cache.GetLength(sequence));
    }

    [Fact]
    public void Engine()
    {
        // README: Engine
        // An engine's own cache, [kvHead, capacity, dim] in float, holds 1,000 tokens of room for 4,096; the last 20 are new, their queries [token, head, dim]. Where its loop over heads stood:
        float[] queries = new float[20 * 16 * 128], keys = new float[8 * 4096 * 128], values = new float[8 * 4096 * 128], output = new float[20 * 16 * 128];

        AttentionStrides ofCache = AttentionStrides.HeadMajor(heads: 8, tokens: 4096, dim: 128);
        var shape = new AttentionShape(batch: 1, queryLength: 20, keyLength: 1000, queryHeads: 16, keyValueHeads: 8, keyDim: 128) { KeyStrides = ofCache, ValueStrides = ofCache };
        Attention.Forward<float, float>(queries, keys, values, output, shape, new AttentionOptions { Mask = AttentionMask.Causal });
        // README: end
        values.AsSpan().Fill(float.NaN); // room that no query sees
        for (int head = 0; head < 8; head++) values.AsSpan(head * 4096 * 128, 1000 * 128).Fill(head);
        Attention.Forward<float, float>(queries, keys, values, output, shape, new AttentionOptions { Mask = AttentionMask.Causal });
        for (int i = 0; i < output.Length; i++) Assert.Equal(i / 128 % 16 / 2, output[i], 1e-5f);
    }

    [Fact]
    public async Task Serving()
    {
        PagedKeyValueCacheOptions options = new() { Blocks = 10, BlockSize = 4, KeyValueHeads = 1, KeyDim = 1 };
        int[] promptTokens = [1, 2, 3];
        using var ending = new CancellationTokenSource();
        CancellationToken stopping = ending.Token;
        var model = new ExampleModel(() => ending.Cancel());
        try
        {
            // README: Serving
            using var cache = new PagedKeyValueCache<Half>(options);
            using BatchScheduler scheduler = BatchScheduler.Create(cache, new() { MaxTokensPerStep = 512 });
            GenerationRequest request = scheduler.Add(promptTokens, maxNewTokens: 20);          // from any thread, at any time
            while (await scheduler.WaitForWorkAsync(stopping))                                  // sleeps while there is nothing to do
            {
                if (!scheduler.TryNext(out BatchStep? step)) continue;                          // plans, admits, puts back, makes room
                try
                {
                    int[] sampledTokens = model.Run(cache, step);       // for each layer: cache.Write(layer, step.Batch, keys, values),
                    scheduler.Complete(sampledTokens);                  // then Attention.ForwardPaged(query, output, cache, layer, step.Batch)
                }
                catch (ModelException)
                {
                    scheduler.Abandon();                                // its requests run again with the next step
                }
            }
            // README: end
            Assert.Fail($"{request} is waited for, and nothing ends the wait.");
        }
        catch (OperationCanceledException)
        {
            Assert.Equal((21, 20), (model.Steps, model.Sampled));
        }
    }

    [Fact]
    public void Explain()
    {
        // README: Explain
        var shape = new AttentionShape(batch: 1, queryLength: 2048, keyLength: 2048, queryHeads: 32, keyValueHeads: 8, keyDim: 128);
        AttentionExplanation explanation = Attention.Explain<float, float>(shape, new AttentionOptions { Mask = AttentionMask.Causal });
        Console.WriteLine(explanation); // backend, kernel, instruction set, threads, arithmetic, tiles and the reasons for them
        // README: end
        Assert.Equal("cpu", explanation.Backend);
    }

    private sealed class ModelException : Exception;

    /// <summary>Fails in its third step, and says when it has sampled 20 tokens.</summary>
    private sealed class ExampleModel(Action whenDone)
    {
        public int Steps { get; private set; }

        public int Sampled { get; private set; }

        public int[] Run(KeyValueCache cache, BatchStep step)
        {
            float[] rows = new float[step.Tokens.Length];
            cache.Write<float>(0, step.Batch, rows, rows);
            if (++Steps == 3) throw new ModelException();
            Sampled += step.LogitRows.Length;
            if (Sampled == 20) whenDone();
            return new int[step.LogitRows.Length];
        }
    }
}
