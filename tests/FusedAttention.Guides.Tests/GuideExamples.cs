using System.Collections.Concurrent;
using System.Diagnostics.Metrics;
using System.IO.MemoryMappedFiles;
using System.Numerics.Tensors;
using System.Runtime.InteropServices;
using Xunit;

namespace FusedAttention.Guides.Tests;

/// <summary>The examples of the guides in docs/ that need the library alone: each stands there word for word (<see cref="ExampleTests"/>), and is compiled, run and checked here.</summary>
public sealed class GuideExamples
{
    private static readonly AttentionOptions Causal = new() { Mask = AttentionMask.Causal };

    [Fact]
    public void HeadMajorTensors()
    {
        Tensor<float> query = Numbers(1, 2, 8, 16, 64), key = Numbers(2, 2, 2, 16, 64), value = Numbers(3, 2, 2, 16, 64), output = Tensor.CreateFromShape<float>([2, 8, 16, 64]);

        // README: HeadMajorTensors
        // [batch, head, token, dim] seen as [batch, token, head, dim]: views, nothing is copied, and the output keeps the order of the others.
        static Tensor<float> TokenMajor(Tensor<float> tensor) => Tensor.PermuteDimensions(tensor, [0, 2, 1, 3]);
        Attention.Forward(TokenMajor(query), TokenMajor(key), TokenMajor(value), TokenMajor(output), new AttentionOptions { Mask = AttentionMask.Causal });
        // README: end
        Tensor<float> expected = Tensor.CreateFromShape<float>([2, 16, 8, 64]);
        Attention.Forward(TokenMajor(query), TokenMajor(key), TokenMajor(value), expected, Causal);
        Assert.Equal(expected[1, 15, 7, 63], output[1, 7, 15, 63]);
        Assert.NotEqual(0, output[1, 7, 15, 63]);
    }

    [Fact]
    public void PackedProjection()
    {
        float[] projected = new float[16 * 12 * 64], output = new float[16 * 8 * 64];
        for (int i = 0; i < projected.Length; i++) projected[i] = MathF.Sin(i);

        // README: PackedProjection
        // One matrix product wrote queries, keys and values of each token side by side, 8 + 2 + 2 heads of 64: three views of one array.
        const int Row = (8 + 2 + 2) * 64;
        var inARow = new AttentionStrides(Batch: 16 * Row, Token: Row, Head: 64);
        var shape = new AttentionShape(batch: 1, queryLength: 16, keyLength: 16, queryHeads: 8, keyValueHeads: 2, keyDim: 64)
        {
            QueryStrides = inARow, KeyStrides = inARow, ValueStrides = inARow,
        };
        ReadOnlySpan<float> queries = projected, keys = projected.AsSpan(8 * 64), values = projected.AsSpan((8 + 2) * 64);
        Attention.Forward(queries, keys, values, output, shape, new AttentionOptions { Mask = AttentionMask.Causal });
        // README: end
        Assert.Equal(projected[10 * 64], output[0], 1e-6f); // the first token sees itself alone
    }

    [Fact]
    public void LatentAttention()
    {
        float[] latents = new float[100 * 576], queries = new float[16 * 576], output = new float[16 * 512];
        for (int i = 0; i < latents.Length; i++) latents[i] = MathF.Cos(i);

        // README: LatentAttention
        // Multi-head latent attention, decoding: 16 query heads over one compressed row of 576 elements a token, whose first 512 are the value too. Keys and values are the same memory.
        var shape = new AttentionShape(batch: 1, queryLength: 1, keyLength: 100, queryHeads: 16, keyValueHeads: 1, keyDim: 576, valueDim: 512)
        {
            ValueStrides = new AttentionStrides(Batch: 100 * 576, Token: 576, Head: 576),
        };
        Attention.Forward<float, float>(queries, latents, latents, output, shape, new AttentionOptions { Scale = 1 / MathF.Sqrt(192) });
        // README: end
        double mean = Enumerable.Range(0, 100).Average(token => (double)latents[(token * 576) + 511]); // queries of zeros weigh all alike
        Assert.Equal(mean, output[(15 * 512) + 511], 1e-6);
    }

    [Fact]
    public void Masks()
    {
        // README: Masks
        AttentionMask full = AttentionMask.Full;                            // encoders, cross-attention: the default
        AttentionMask causal = AttentionMask.Causal;                        // decoders
        AttentionMask mistral = AttentionMask.SlidingWindow(4096);          // sliding_window = 4096: the last 4,096 keys, the query's own included
        AttentionMask local = AttentionMask.Window(left: 128, right: 128);  // 128 keys to either side
        // README: end
        Assert.Equal(["full", "causal", "causal window(4095, *)", "window(128, 128)"], [full.ToString(), causal.ToString(), mistral.ToString(), local.ToString()]);
    }

    [Fact]
    public void Positions()
    {
        Tensor<float> query = Numbers(1, 1, 4, 2, 16), key = Numbers(2, 1, 20, 2, 16), value = Numbers(3, 1, 20, 2, 16), output = Tensor.CreateFromShape<float>([1, 4, 2, 16]);

        // README: Positions
        // 4 new queries over 20 keys: by default the last query stands at the last key, so these are at 16, 17, 18 and 19.
        Attention.Forward(query, key, value, output, new AttentionOptions { Mask = AttentionMask.Causal });

        // The same said aloud, as where a context is computed in parts; or, for the rare case that queries and keys begin together, by the other alignment.
        Attention.Forward(query, key, value, output, new AttentionOptions { Mask = AttentionMask.Causal, QueryOffset = 16 });
        Attention.Forward(query, key, value, output, new AttentionOptions { Mask = AttentionMask.Causal, Alignment = AttentionAlignment.TopLeft });
        // README: end
        Assert.Equal(value[0, 0, 1, 5], output[0, 0, 1, 5], 1e-6f);
        Attention.Forward(query, key, value, output, Causal);
        Tensor<float> stated = Tensor.CreateFromShape<float>([1, 4, 2, 16]);
        Attention.Forward(query, key, value, stated, Causal with { QueryOffset = 16 });
        Assert.Equal(output.ToArray(), stated.ToArray());
    }

    [Fact]
    public void BooleanMask()
    {
        Tensor<float> query = Numbers(1, 2, 4, 8, 16), key = Numbers(2, 2, 6, 2, 16), value = Numbers(3, 2, 6, 2, 16), output = Tensor.CreateFromShape<float>([2, 4, 8, 16]);

        // README: BooleanMask
        // True where a query may see a key: [batch, head, query, key], with 1 where it does not matter. Here each batch row has one of its own, for all heads.
        Tensor<bool> mask = Tensor.CreateFromShape<bool>([2, 1, 4, 6]);
        mask[0, 0, 3, 5] = true;
        mask[1, 0, 0, 0] = true;
        Attention.Forward(query, key, value, output, operands: new AttentionOperands { BooleanMask = mask });
        // README: end
        Assert.Equal(value[0, 5, 1, 9], output[0, 3, 7, 9], 1e-6f);
        Assert.Equal(0, output[0, 0, 7, 9]);
    }

    [Fact]
    public void Bias()
    {
        Tensor<float> query = Numbers(1, 1, 4, 8, 16), key = Numbers(2, 1, 6, 8, 16), value = Numbers(3, 1, 6, 8, 16), output = Tensor.CreateFromShape<float>([1, 4, 8, 16]);

        // README: Bias
        // Added to the scores, as T5's relative positions: a number for each head, query and key, in float, Half or BFloat16. Negative infinity hides a key.
        Tensor<float> bias = Tensor.CreateFromShape<float>([8, 4, 6]);
        bias.Fill(float.NegativeInfinity);
        for (int head = 0; head < 8; head++)
            for (int token = 0; token < 4; token++) bias[head, token, token] = 0;
        Attention.Forward(query, key, value, output, new AttentionOptions { Scale = 1 }, new AttentionOperands { Bias = bias });
        // README: end
        Assert.Equal(value[0, 2, 7, 9], output[0, 2, 7, 9], 1e-6f);
    }

    [Fact]
    public void Modifications()
    {
        Tensor<float> query = Numbers(1, 1, 4, 8, 16), key = Numbers(2, 1, 6, 2, 16), value = Numbers(3, 1, 6, 2, 16), output = Tensor.CreateFromShape<float>([1, 4, 8, 16]);

        // README: Modifications
        var gemma2 = new AttentionOptions { Mask = AttentionMask.Causal, Scale = 1 / MathF.Sqrt(256), SoftCap = 50 };
        var bloom = new AttentionOptions { Mask = AttentionMask.Causal, AlibiSlopes = AlibiSlopes.ForHeads(8) };
        var gptOss = new AttentionOptions { Mask = AttentionMask.SlidingWindow(128), SinkLogits = [.. new float[8]] }; // learned, one a query head
        // README: end
        foreach (AttentionOptions options in (AttentionOptions[])[gemma2, bloom, gptOss])
        {
            Attention.Forward(query, key, value, output, options);
            Assert.NotEqual(0, output[0, 3, 7, 15]);
        }
    }

    [Fact]
    public void Parts()
    {
        Tensor<float> query = Numbers(1, 4, 8, 16), firstKey = Numbers(2, 30, 2, 16), firstValue = Numbers(3, 30, 2, 16), restKey = Numbers(4, 20, 2, 16), restValue = Numbers(5, 20, 2, 16);
        Tensor<float> output = Tensor.CreateFromShape<float>([4, 8, 16]);

        // README: Parts
        // A context of 50 keys in two pieces, wherever each is: attention over each, with the logarithm of its sum, and the two together.
        Tensor<float> outputs = Tensor.CreateFromShape<float>([2, 4, 8, 16]), sums = Tensor.CreateFromShape<float>([2, 8, 4]);
        TensorSpan<float> ofFirst = outputs.AsTensorSpan([0..1, 0..4, 0..8, 0..16]).SqueezeDimension(0), ofRest = outputs.AsTensorSpan([1..2, 0..4, 0..8, 0..16]).SqueezeDimension(0);
        Attention.Forward<float, float>(
            query, firstKey, firstValue, ofFirst, new AttentionOptions { Mask = AttentionMask.Causal, QueryOffset = 46 },
            new AttentionOperands { LogSumExp = sums.AsTensorSpan([0..1, 0..8, 0..4]).SqueezeDimension(0) });
        Attention.Forward<float, float>(
            query, restKey, restValue, ofRest, new AttentionOptions { Mask = AttentionMask.Causal, QueryOffset = 46 - 30 },
            new AttentionOperands { LogSumExp = sums.AsTensorSpan([1..2, 0..8, 0..4]).SqueezeDimension(0) });
        Attention.Merge(outputs, sums, output);
        // README: end
        Tensor<float> whole = Tensor.CreateFromShape<float>([4, 8, 16]);
        Attention.Forward(query, Tensor.ConcatenateOnDimension(0, [firstKey, restKey]), Tensor.ConcatenateOnDimension(0, [firstValue, restValue]), whole, Causal);
        Assert.All(whole.ToArray().Zip(output.ToArray()), static pair => Assert.Equal(pair.First, pair.Second, 1e-5f));
    }

    [Fact]
    public void Weights()
    {
        Tensor<float> query = Numbers(1, 1, 4, 8, 16), key = Numbers(2, 1, 20, 2, 16);

        // README: Weights
        // What the last of 4 queries looks at, in head 5: one weight for each of 20 keys. Slow, on purpose.
        double[] weights = new double[20];
        Attention.GetWeights(query, key, batchIndex: 0, queryIndex: 3, head: 5, weights, new AttentionOptions { Mask = AttentionMask.Causal });
        // README: end
        Assert.Equal(1, weights.Sum(), 1e-12);
    }

    [Fact]
    public void CacheForks()
    {
        float[] keys = new float[20 * 2 * 64], values = new float[20 * 2 * 64];

        // README: CacheForks
        using var cache = new PagedKeyValueCache<Half>(new() { Blocks = 100, BlockSize = 16, KeyValueHeads = 2, KeyDim = 64 });
        CacheSequence sequence = cache.CreateSequence();
        cache.Append<float>(sequence, keys, values);        // one layer: Extend and Write at once

        CacheSequence other = cache.Fork(sequence);         // the same tokens in the same blocks; who writes first gets a copy
        cache.Truncate(other, 18);                          // a draft of 2 tokens was wrong
        cache.Free(sequence);                               // its handle is refused from now on
        // README: end
        Assert.Equal((18, 2), (cache.GetLength(other), cache.UsedBlocks));
        Assert.False(cache.Contains(sequence));
    }

    [Fact]
    public void CachePrefixes()
    {
        using var cache = new PagedKeyValueCache<Half>(new() { Blocks = 100, BlockSize = 16, KeyValueHeads = 2, KeyDim = 64 });
        int[] prompt = [.. Enumerable.Range(0, 40)];
        float[] keys = new float[40 * 2 * 64], values = new float[40 * 2 * 64];

        // README: CachePrefixes
        CacheSequence first = cache.CreateSequence();
        cache.Append<float>(first, keys, values);
        cache.Publish(first, prompt);                       // its full blocks can be found by what is in them
        cache.Free(first);                                  // and still can, until their room is needed

        CacheSequence second = cache.CreateSequence(prompt, out int cachedTokens); // starts with 32 of the 40 tokens: two full blocks
        // README: end
        Assert.Equal((32, 32), (cachedTokens, cache.GetLength(second)));
    }

    [Fact]
    public void CacheFiles()
    {
        using var cache = new PagedKeyValueCache<Half>(new() { Blocks = 100, BlockSize = 16, KeyValueHeads = 2, KeyDim = 64 });
        using var elsewhere = new PagedKeyValueCache<float>(new() { Blocks = 10, BlockSize = 32, KeyValueHeads = 2, KeyDim = 64 });
        CacheSequence sequence = cache.CreateSequence();
        cache.Append<float>(sequence, new float[40 * 2 * 64], new float[40 * 2 * 64]);
        using var stream = new MemoryStream();

        // README: CacheFiles
        cache.Save(sequence, stream);
        stream.Position = 0;
        CacheSequence loaded = elsewhere.Load(stream);      // another cache of the same layers, heads and dimensions: block size, element type and backend may differ
        // README: end
        Assert.Equal(40, elsewhere.GetLength(loaded));
    }

    [Fact]
    public void CacheWindows()
    {
        using var cache = new PagedKeyValueCache<Half>(new() { Blocks = 5, BlockSize = 16, KeyValueHeads = 2, KeyDim = 64 });
        CacheSequence sequence = cache.CreateSequence();
        float[] keys = new float[16 * 2 * 64], values = new float[16 * 2 * 64];

        // README: CacheWindows
        // A model whose layers all see 64 keys: blocks that the window has passed come back, and a text may be longer than the pool.
        for (int step = 0; step < 20; step++)
        {
            int position = cache.Append<float>(sequence, keys, values);
            cache.DropBefore(sequence, Math.Max(0, position + 16 - 64));
        }

        // README: end
        Assert.Equal((320, 4), (cache.GetLength(sequence), cache.UsedBlocks));
    }

    [Fact]
    public void Execution()
    {
        Tensor<float> query = Numbers(1, 1, 4, 8, 16), key = Numbers(2, 1, 20, 2, 16), value = Numbers(3, 1, 20, 2, 16), output = Tensor.CreateFromShape<float>([1, 4, 8, 16]);
        using var stopping = new CancellationTokenSource();

        // README: Execution
        // What is computed, and how: both immutable, made once, shared by any number of calls and threads.
        var options = new AttentionOptions { Mask = AttentionMask.Causal };
        var execution = new CpuExecution { MaxDegreeOfParallelism = 2, InstructionSet = CpuInstructionSet.Vector128 };
        Attention.Forward(query, key, value, output, options, execution: execution, cancellationToken: stopping.Token);
        // README: end
        Assert.NotEqual(0, output[0, 3, 7, 15]);
    }

    [Fact]
    public void Preparation()
    {
        // README: Preparation
        // Before the first request: what a step needs that decodes some sequences and prefills others, over a cache in half precision with blocks of 16.
        var shape = new AttentionShape(batch: 1, queryLength: 1, keyLength: 1, queryHeads: 8, keyValueHeads: 2, keyDim: 64);
        Attention.Prepare<float, Half>(shape, queryLengths: [1, 512], keyLengths: [4096, 512], blockSize: 16, new AttentionOptions { Mask = AttentionMask.Causal });
        // README: end
    }

    [Fact]
    public void BackendChoice()
    {
        // README: BackendChoice
        // Chosen once and said aloud: no call falls back by itself.
        var sizes = new PagedKeyValueCacheOptions { Blocks = 100, BlockSize = 16, KeyValueHeads = 2, KeyDim = 64 };
        bool onGpu = CudaDevice.IsSupported;
        Console.WriteLine(onGpu ? $"attention on {CudaDevice.Default.Name}" : $"attention on the CPU: {CudaDevice.UnsupportedReason}");
        using KeyValueCache cache = onGpu ? new CudaPagedKeyValueCache<Half>(CudaDevice.Default, sizes) : new PagedKeyValueCache<Half>(sizes);
        // README: end
        Assert.Equal(100, cache.FreeBlocks);
    }

    [Fact]
    public void Telemetry()
    {
        Tensor<float> query = Numbers(1, 1, 4, 8, 16), key = Numbers(2, 1, 20, 2, 16), value = Numbers(3, 1, 20, 2, 16), output = Tensor.CreateFromShape<float>([1, 4, 8, 16]);
        var lines = new ConcurrentQueue<string>(); // calls of the tests beside this one are told, too

        // README: Telemetry
        // Each call with its backend and kernel, without another package.
        using var listener = new MeterListener();
        listener.InstrumentPublished = (instrument, own) =>
        {
            if (instrument is { Meter.Name: "FusedAttention", Name: "fusedattention.duration" }) own.EnableMeasurementEvents(instrument);
        };
        listener.SetMeasurementEventCallback<double>((_, seconds, tags, _) =>
        {
            string call = "";
            foreach ((string name, object? what) in tags) call += $"{name} {what}, ";
            lines.Enqueue($"{call}{1e6 * seconds:0} us");
        });
        listener.Start();
        Attention.Forward(query, key, value, output, new AttentionOptions { Mask = AttentionMask.Causal });
        // README: end
        Assert.Contains(lines, static line => line.StartsWith("backend cpu, kernel decode, ", StringComparison.Ordinal));
    }

    [Fact]
    public void RowInvariance()
    {
        Tensor<float> query = Numbers(1, 20, 8, 16), key = Numbers(2, 20, 2, 16), value = Numbers(3, 20, 2, 16), whole = Tensor.CreateFromShape<float>([20, 8, 16]), last = Tensor.CreateFromShape<float>([1, 8, 16]);

        // README: RowInvariance
        // The last token alone, over 20 keys, and in a prefill of all 20: the same bits.
        var options = new AttentionOptions { Mask = AttentionMask.Causal, RowInvariant = true };
        Attention.Forward(query, key, value, whole, options);
        Attention.Forward<float, float>(query.AsReadOnlyTensorSpan([19..20, 0..8, 0..16]), key, value, last, options);
        // README: end
        Assert.Equal(whole.ToArray()[(19 * 8 * 16)..], last.ToArray());
    }

    [Fact]
    public unsafe void MappedMemory()
    {
        using var folder = new TemporaryFolder();
        string path = folder.Write("model.bin", MemoryMarshal.AsBytes<Half>([.. Enumerable.Repeat((Half)2, 16 + (2 * 32 * 2 * 64))]));
        float[] query = new float[8 * 64], output = new float[8 * 64];
        const long keysAt = 32, valuesAt = 32 + (32 * 2 * 64 * 2);

        // README: MappedMemory
        // Keys and values in memory that somebody else has mapped, in half precision: 32 tokens, 2 heads of 64. The pointers must stay valid until the call returns.
        using MemoryMappedFile file = MemoryMappedFile.CreateFromFile(path, FileMode.Open);
        using MemoryMappedViewAccessor view = file.CreateViewAccessor();
        byte* memory = null;
        view.SafeMemoryMappedViewHandle.AcquirePointer(ref memory);
        try
        {
            var shape = new AttentionShape(batch: 1, queryLength: 1, keyLength: 32, queryHeads: 8, keyValueHeads: 2, keyDim: 64);
            fixed (float* q = query, o = output) Attention.Forward(q, (Half*)(memory + keysAt), (Half*)(memory + valuesAt), o, shape);
        }
        finally
        {
            view.SafeMemoryMappedViewHandle.ReleasePointer();
        }

        // README: end
        Assert.All(output, static x => Assert.Equal(2, x, 1e-6f));
    }

    [Fact]
    public void OwnThreads()
    {
        float[] query = [.. Numbers(1, 16, 8, 64).ToArray()], key = [.. Numbers(2, 16, 4, 64).ToArray()], value = [.. Numbers(3, 16, 4, 64).ToArray()], output = new float[query.Length];

        // README: OwnThreads
        // An engine with pinned threads of its own: each takes 2 of the 8 query heads and the key/value head under them, on itself alone. 16 tokens, 4 key/value heads of 64.
        var alone = new CpuExecution { MaxDegreeOfParallelism = 1 };
        var causal = new AttentionOptions { Mask = AttentionMask.Causal };
        void Work(int thread)
        {
            AttentionStrides ofQueries = new(Batch: 16 * 8 * 64, Token: 8 * 64, Head: 64), ofKeys = new(Batch: 16 * 4 * 64, Token: 4 * 64, Head: 64);
            var shape = new AttentionShape(batch: 1, queryLength: 16, keyLength: 16, queryHeads: 2, keyValueHeads: 1, keyDim: 64)
            {
                QueryStrides = ofQueries, KeyStrides = ofKeys, ValueStrides = ofKeys, OutputStrides = ofQueries,
            };
            int q = thread * 2 * 64, k = thread * 64;
            Attention.Forward<float, float>(query.AsSpan(q), key.AsSpan(k), value.AsSpan(k), output.AsSpan(q), shape, causal, execution: alone);
        }

        Thread[] threads = [.. Enumerable.Range(0, 4).Select(i => new Thread(() => Work(i)))];
        foreach (Thread thread in threads) thread.Start();
        foreach (Thread thread in threads) thread.Join();
        // README: end
        float[] together = new float[query.Length];
        Attention.Forward<float, float>(query, key, value, together, new AttentionShape(1, 16, 16, 8, 4, 64), Causal);
        Assert.Equal(together, output);
    }

    private static Tensor<float> Numbers(int seed, params ReadOnlySpan<nint> shape)
    {
        Tensor<float> tensor = Tensor.CreateFromShape<float>(shape);
        var random = new Random(seed);
        Span<float> all = MemoryMarshal.CreateSpan(ref tensor.GetPinnableReference(), (int)tensor.FlattenedLength);
        for (int i = 0; i < all.Length; i++) all[i] = (random.NextSingle() * 2) - 1;
        return tensor;
    }
}
