using System.Numerics.Tensors;
using System.Runtime.InteropServices;
using FusedAttention.Serving;
using FusedAttention.Tensors;
using Xunit;

namespace FusedAttention.Cuda.Tests.Gpu;

/// <summary>The cache on the GPU against the one of the CPU: contents byte for byte, attention within the rounding of weights.</summary>
public abstract class CacheTests
{
    private protected CacheTests(TestDevice device) => Problems = new(device);

    private GpuProblems Problems { get; }

    public static TheoryData<AttentionElementType, AttentionElementType> Conversions()
    {
        var pairs = new TheoryData<AttentionElementType, AttentionElementType>();
        foreach (AttentionElementType source in Elements.Wide)
        {
            foreach (AttentionElementType cache in Elements.Wide) pairs.Add(source, cache);
        }

        return pairs;
    }

    /// <summary>All patterns of a 16-bit source; of floats those at and beside every border between two values of a 16-bit type.</summary>
    [Theory]
    [MemberData(nameof(Conversions))]
    public void New_tokens_are_converted_as_the_processor_does(AttentionElementType source, AttentionElementType cache)
    {
        CudaDevice device = Problems.Open();
        switch (source)
        {
            case AttentionElementType.Float32: AppendAs<float>(device, cache); break;
            case AttentionElementType.Float16: AppendAs<Half>(device, cache); break;
            default: AppendAs<BFloat16>(device, cache); break;
        }
    }

    /// <summary>Forks, copies on write, truncation and appending from both memories, in any order, with several layers; some keys of the host are rotated on their way.</summary>
    [Theory]
    [InlineData(1, AttentionElementType.BFloat16)]
    [InlineData(2, AttentionElementType.BFloat16)]
    [InlineData(3, AttentionElementType.BFloat16)]
    [InlineData(4, AttentionElementType.BFloat16)]
    [InlineData(1, AttentionElementType.Int8)]
    [InlineData(4, AttentionElementType.Int8)]
    [InlineData(2, AttentionElementType.Float8E4M3)]
    [InlineData(3, AttentionElementType.Float8E4M3)]
    public void Any_order_of_operations_leaves_what_the_CPU_has(int seed, AttentionElementType type)
    {
        switch (type)
        {
            case AttentionElementType.BFloat16: AnyOrder<BFloat16>(seed); break;
            case AttentionElementType.Int8: AnyOrder<sbyte>(seed); break;
            default: AnyOrder<Float8E4M3>(seed); break;
        }
    }

    private void AnyOrder<T>(int seed)
        where T : unmanaged
    {
        const int Heads = 3, KeyDim = 24, ValueDim = 10, Layers = 2;
        CudaDevice device = Problems.Open();
        using CudaStream stream = device.CreateStream();
        var options = new PagedKeyValueCacheOptions { Blocks = 60, BlockSize = ((int[])[1, 3, 16, 4])[seed - 1], KeyValueHeads = Heads, KeyDim = KeyDim, ValueDim = ValueDim, Layers = Layers };
        using var cache = new CudaPagedKeyValueCache<T>(device, options);
        using var expected = new PagedKeyValueCache<T>(options);
        var rotary = new RotaryEmbedding(new() { HeadDim = KeyDim });
        var random = new Random(seed);
        var sequences = new List<(CacheSequence Gpu, CacheSequence Cpu)>();
        for (int step = 0; step < 400; step++)
        {
            int choice = random.Next(10), at = sequences.Count == 0 ? -1 : random.Next(sequences.Count);
            if (at < 0 || (choice == 0 && sequences.Count < 6)) sequences.Add((cache.CreateSequence(), expected.CreateSequence()));
            else if (choice == 1 && sequences.Count < 6) sequences.Add((cache.Fork(sequences[at].Gpu), expected.Fork(sequences[at].Cpu)));
            else if (choice == 2)
            {
                int length = random.Next(expected.GetLength(sequences[at].Cpu) + 1);
                cache.Truncate(sequences[at].Gpu, length);
                expected.Truncate(sequences[at].Cpu, length);
            }
            else if (choice == 3 && sequences.Count > 3)
            {
                cache.Free(sequences[at].Gpu);
                expected.Free(sequences[at].Cpu);
                sequences.RemoveAt(at);
            }
            else
            {
                // New tokens, or tokens that are there once more: blocks that others see are copied.
                int length = expected.GetLength(sequences[at].Cpu), tokens = random.Next(1, 9), from = choice < 6 && length > 0 ? random.Next(length) : length;
                if (expected.GetBlocksNeeded(sequences[at].Cpu, tokens) + 4 > expected.FreeBlocks) continue;
                int more = Math.Max(0, from + tokens - length);
                cache.Extend(sequences[at].Gpu, more);
                expected.Extend(sequences[at].Cpu, more);
                for (int layer = 0; layer < Layers; layer++)
                {
                    float[] keys = Noise(random, tokens * Heads * KeyDim), values = Noise(random, tokens * Heads * ValueDim);
                    bool areOnHost = random.Next(2) == 0;
                    RotaryEmbedding? turns = areOnHost && random.Next(2) == 0 ? rotary : null;
                    expected.Write<float>(layer, sequences[at].Cpu, from, keys, values, turns);
                    if (areOnHost)
                    {
                        cache.Write<float>(layer, sequences[at].Gpu, from, keys, values, turns);
                        continue;
                    }

                    using CudaTensor<float> k = device.Allocate<float>(tokens, Heads, KeyDim), v = device.Allocate<float>(tokens, Heads, ValueDim);
                    k.CopyFrom(keys, stream);
                    v.CopyFrom(values, stream);
                    cache.Write(layer, sequences[at].Gpu, from, k, v, random.Next(2) == 0 ? stream : null);
                }
            }

            Assert.Equal(expected.FreeBlocks, cache.FreeBlocks);
            if (step % 20 != 19) continue;
            for (int layer = 0; layer < Layers; layer++)
            {
                foreach ((CacheSequence gpu, CacheSequence cpu) in sequences)
                    CacheContents.AssertSame(CacheContents.Of(expected, cpu, layer), cache.ContentsOf(gpu, layer), $"seed {seed}, step {step}, layer {layer}");
            }
        }
    }

    /// <summary>A sequence goes through the host into another cache.</summary>
    [Fact]
    public void Sequences_can_be_saved_and_loaded()
    {
        const int Heads = 2, Dim = 64, Tokens = 50;
        CudaDevice device = Problems.Open();
        var options = new PagedKeyValueCacheOptions { Blocks = 8, BlockSize = 16, KeyValueHeads = Heads, KeyDim = Dim };
        using CudaPagedKeyValueCache<Half> saved = new(device, options), loaded = new(device, options with { Blocks = 16, BlockSize = 7 });
        using CudaTensor<Half> q = Tensor(device, 1, 5, Heads, Dim), k = Tensor(device, 2, Tokens, Heads, Dim), v = Tensor(device, 3, Tokens, Heads, Dim), o = device.Allocate<Half>(5, Heads, Dim);
        CacheSequence a = saved.CreateSequence();
        saved.Append(a, k, v);
        var stream = new MemoryStream();
        saved.Save(a, stream);
        stream.Position = 0;
        CacheSequence b = loaded.Load(stream);
        Half[] expected = new Half[5 * Heads * Dim], actual = new Half[expected.Length];
        Run(saved, a, expected);
        Run(loaded, b, actual);
        Assert.Contains(expected, static x => x != Half.Zero);
        Assert.Equal(expected, actual);

        void Run(CudaPagedKeyValueCache<Half> cache, CacheSequence sequence, Half[] result)
        {
            PagedBatch batch = cache.CreateBatch();
            batch.Add(sequence, 5);
            CudaAttention.ForwardPaged(q, o, cache, 0, batch, new AttentionOptions { Mask = AttentionMask.Causal });
            o.CopyTo(result);
        }
    }

    /// <summary>The same bits from tables of the device, decoding and prefilling, in a window and without; and a bad number in a table is told, and hurts its own sequence only.</summary>
    [Theory]
    [InlineData(1, 1)]
    [InlineData(1, 16)]
    [InlineData(40, 16)]
    [InlineData(3, 7)]
    public void Block_tables_may_lie_on_the_device(int queries, int blockSize)
    {
        const int Heads = 2, Dim = 64, Sequences = 3, Tokens = 150;
        CudaDevice device = Problems.Open();
        using CudaStream stream = device.CreateStream();
        int columns = (Tokens + blockSize - 1) / blockSize, rows = Sequences * queries;
        using var cache = new CudaPagedKeyValueCache<Half>(device, new() { Blocks = Sequences * columns, BlockSize = blockSize, KeyValueHeads = Heads, KeyDim = Dim });
        using CudaTensor<Half> query = Tensor(device, 1, rows, 2 * Heads, Dim), output = device.Allocate<Half>(rows, 2 * Heads, Dim);
        using CudaTensor<int> tables = device.Allocate<int>(Sequences, columns);
        int[] host = new int[Sequences * columns], cumulative = [.. Enumerable.Range(0, Sequences + 1).Select(s => s * queries)], contexts = [.. Enumerable.Repeat(Tokens, Sequences)];
        for (int s = 0; s < Sequences; s++)
        {
            CacheSequence sequence = cache.CreateSequence();
            using CudaTensor<Half> keys = Tensor(device, 10 + s, Tokens, Heads, Dim), values = Tensor(device, 20 + s, Tokens, Heads, Dim);
            cache.Append(sequence, keys, values);
            cache.CopyBlockTable(sequence, host.AsSpan(s * columns, columns));
        }

        foreach (AttentionMask mask in (AttentionMask[])[AttentionMask.Causal, AttentionMask.CausalWindow(20)])
        {
            tables.CopyFrom(host, stream);
            AttentionOptions options = new() { Mask = mask };
            Half[] expected = new Half[rows * 2 * Heads * Dim], actual = new Half[expected.Length];
            CudaAttention.ForwardPaged(query, cache.GetKeys(), cache.GetValues(), output, new PagedSequences(cumulative, contexts, host, columns), options, stream: stream);
            output.CopyTo(expected, stream);
            CudaAttention.ForwardPaged(query, cache.GetKeys(), cache.GetValues(), output, new CudaPagedSequences(cumulative, contexts, tables), options, stream: stream);
            output.CopyTo(actual, stream);
            Assert.Equal(expected, actual);

            int[] damaged = [.. host];
            damaged[(2 * columns) - 1] = Sequences * columns;
            tables.CopyFrom(damaged, stream);
            CudaAttention.ForwardPaged(query, cache.GetKeys(), cache.GetValues(), output, new CudaPagedSequences(cumulative, contexts, tables), options, stream: stream);
            Assert.Contains($"sequence 1 on the device, entry {columns - 1}, was block {Sequences * columns}", Assert.Throws<CudaException>(stream.Synchronize).Message, StringComparison.Ordinal);
            output.CopyTo(actual, stream);
            int row = queries * 2 * Heads * Dim;
            Assert.Equal(expected[..row], actual[..row]);
            Assert.Equal(expected[(2 * row)..], actual[(2 * row)..]);
        }
    }

    /// <summary>Two schedulers, step by step: the same steps, and each row of each layer like the CPU's. Prompts share prefixes, and the pool is small enough that requests are put back.</summary>
    [Theory]
    [InlineData(4, 60, 128, AttentionElementType.Float16)]
    [InlineData(16, 20, 64, AttentionElementType.Float16)]
    [InlineData(64, 6, 40, AttentionElementType.Float16)]
    [InlineData(4, 60, 64, AttentionElementType.Int8)]
    [InlineData(64, 6, 40, AttentionElementType.Int8)]
    [InlineData(16, 20, 80, AttentionElementType.Float8E4M3)]
    public void Steps_of_a_scheduler_agree_with_the_CPU(int blockSize, int blocks, int dim, AttentionElementType type)
    {
        switch (type)
        {
            case AttentionElementType.Float16: Steps<Half>(blockSize, blocks, dim); break;
            case AttentionElementType.Int8: Steps<sbyte>(blockSize, blocks, dim); break;
            default: Steps<Float8E4M3>(blockSize, blocks, dim); break;
        }
    }

    private void Steps<T>(int blockSize, int blocks, int dim)
        where T : unmanaged
    {
        const int Heads = 6, KeyValueHeads = 2, Layers = 2;
        CudaDevice device = Problems.Open();
        using CudaStream stream = device.CreateStream();
        var options = new PagedKeyValueCacheOptions { Blocks = blocks, BlockSize = blockSize, KeyValueHeads = KeyValueHeads, KeyDim = dim, Layers = Layers };
        using var cache = new CudaPagedKeyValueCache<T>(device, options);
        using var expected = new PagedKeyValueCache<T>(options);
        BatchSchedulerOptions serving = new() { MaxTokensPerStep = 48 };
        using BatchScheduler gpu = BatchScheduler.Create(cache, serving), cpu = BatchScheduler.Create(expected, serving);
        var random = new Random(blockSize);
        for (int request = 0; request < 9; request++)
        {
            int[] prompt = [.. Enumerable.Range(0, random.Next(1, 120)).Select(i => i < 40 ? i : random.Next(100))];
            int more = random.Next(1, 30);
            gpu.Add(prompt, more);
            cpu.Add(prompt, more);
        }

        var attention = new AttentionOptions { Mask = AttentionMask.Causal };
        int steps = 0;
        for (; cpu.HasWork; steps++)
        {
            BatchStep a = gpu.Next(), b = cpu.Next();
            Assert.Equal(b.Tokens.ToArray(), a.Tokens.ToArray());
            int total = b.Tokens.Length;
            if (total == 0) break;
            for (int layer = 0; layer < Layers; layer++)
            {
                // A token's key and value are a matter of the token and its place, as a shared prefix needs it.
                Half[] query = [.. Noise(random, total * Heads * dim).Select(static x => (Half)x)];
                float[] keys = Of(b, KeyValueHeads * dim, layer), values = Of(b, KeyValueHeads * dim, layer + 10);
                using CudaTensor<Half> q = device.Allocate<Half>(total, Heads, dim), output = device.Allocate<Half>(total, Heads, dim);
                using CudaTensor<float> k = device.Allocate<float>(total, KeyValueHeads, dim), v = device.Allocate<float>(total, KeyValueHeads, dim);
                q.CopyFrom(query, stream);
                k.CopyFrom(keys, stream);
                v.CopyFrom(values, stream);
                cache.Write(layer, a.Batch, k, v, stream);
                CudaAttention.ForwardPaged(q, output, cache, layer, a.Batch, attention, stream: stream);
                expected.Write<float>(layer, b.Batch, keys, values);
                Half[] result = new Half[total * Heads * dim], actual = new Half[result.Length];
                Attention.ForwardPaged(new ReadOnlyTensorSpan<Half>(query, [total, Heads, dim]), new TensorSpan<Half>(result, [total, Heads, dim]), expected, layer, b.Batch, attention);
                output.CopyTo(actual);
                for (int i = 0; i < result.Length; i++)
                    Assert.True(Math.Abs((float)actual[i] - (float)result[i]) <= 2e-3f, $"step {steps}, layer {layer}, row {i / dim / Heads} of {total}, head {i / dim % Heads}, dim {i % dim}: {actual[i]}, not {result[i]}; blocks of {blockSize}");
            }

            int[] sampled = [.. Enumerable.Range(0, b.LogitRows.Length).Select(_ => random.Next(100))];
            gpu.Complete(sampled);
            cpu.Complete(sampled);
        }

        Assert.False(cpu.HasWork || gpu.HasWork, $"stopped after {steps} steps");
        Assert.Equal((cpu.Preemptions, cpu.SharedTokens, cpu.ComputedTokens), (gpu.Preemptions, gpu.SharedTokens, gpu.ComputedTokens));

        static float[] Of(BatchStep step, int row, int salt)
        {
            float[] numbers = new float[step.Tokens.Length * row];
            foreach (ScheduledRun run in step.Runs)
            {
                for (int t = 0; t < run.TokenCount; t++)
                {
                    var hash = new Random((step.Tokens[run.FirstRow + t] * 1000) + run.Position + t + (salt * 1_000_000));
                    Noise(hash, row).CopyTo(numbers.AsSpan((run.FirstRow + t) * row));
                }
            }

            return numbers;
        }
    }

    private static unsafe void AppendAs<TSource>(CudaDevice device, AttentionElementType type)
        where TSource : unmanaged
    {
        byte[] rows = ConversionCases.Of(Elements.TypeOf<TSource>());
        int elements = rows.Length / sizeof(TSource);
        byte[] expected = new byte[elements * type.Size()];
        fixed (byte* from = rows, to = expected) ElementConversion.Convert(Elements.TypeOf<TSource>(), from, type, to, elements);
        byte[] actual = type switch
        {
            AttentionElementType.Float32 => Append<TSource, float>(device, rows),
            AttentionElementType.Float16 => Append<TSource, Half>(device, rows),
            _ => Append<TSource, BFloat16>(device, rows),
        };
        ConversionCases.AssertEqual(type, expected, actual);
    }

    /// <summary>The first half as keys, the second as values; a cache of exactly that size hands its blocks out in order.</summary>
    private static byte[] Append<TSource, T>(CudaDevice device, byte[] rows)
        where TSource : unmanaged
        where T : unmanaged
    {
        const int Dim = 1024;
        ReadOnlySpan<TSource> elements = MemoryMarshal.Cast<byte, TSource>(rows);
        int tokens = elements.Length / Dim / 2;
        using var cache = new CudaPagedKeyValueCache<T>(device, new() { Blocks = tokens, BlockSize = 1, KeyValueHeads = 1, KeyDim = Dim });
        CacheSequence sequence = cache.CreateSequence();
        using CudaTensor<TSource> keys = device.Allocate<TSource>(tokens, 1, Dim), values = device.Allocate<TSource>(tokens, 1, Dim);
        keys.CopyFrom(elements[..(tokens * Dim)]);
        values.CopyFrom(elements[(tokens * Dim)..]);
        cache.Append(sequence, keys, values);
        T[] k = new T[tokens * Dim], v = new T[tokens * Dim];
        cache.GetKeys().CopyTo(k);
        cache.GetValues().CopyTo(v);
        int[] table = new int[tokens];
        cache.CopyBlockTable(sequence, table);
        return [.. Ordered(k), .. Ordered(v)];

        byte[] Ordered(T[] slots) => [.. table.SelectMany(block => Elements.Bytes<T>(slots.AsSpan(block * Dim, Dim)))];
    }

    private static CudaTensor<Half> Tensor(CudaDevice device, int seed, int tokens, int heads, int dim)
    {
        CudaTensor<Half> tensor = device.Allocate<Half>(tokens, heads, dim);
        tensor.CopyFrom([.. Noise(new Random(seed), tokens * heads * dim).Select(static x => (Half)x)]);
        return tensor;
    }

    private static float[] Noise(Random random, int count)
    {
        var numbers = new float[count];
        for (int i = 0; i < count; i++) numbers[i] = (random.NextSingle() * 2) - 1;
        return numbers;
    }
}
