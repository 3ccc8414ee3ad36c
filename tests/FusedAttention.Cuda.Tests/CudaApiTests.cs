using System.Numerics.Tensors;
using Xunit;

namespace FusedAttention.Cuda.Tests;

/// <summary>The public calls from end to end, on the GPU of this machine if it has one: against the oracle, and against the CPU.</summary>
[Collection(Fakes.FakeDriver.Collection)]
public sealed class CudaApiTests
{
    /// <summary>Every pair of types; dimensions of each tile, and some that only the plain kernel takes.</summary>
    private static readonly (AttentionElementType Query, AttentionElementType KeyValue, int KeyDim, int ValueDim)[] Specialisations =
    [
        (AttentionElementType.Float16, AttentionElementType.Float16, 64, 64),
        (AttentionElementType.BFloat16, AttentionElementType.BFloat16, 128, 128),
        (AttentionElementType.Float16, AttentionElementType.Float16, 192, 128),
        (AttentionElementType.BFloat16, AttentionElementType.BFloat16, 80, 48),
        (AttentionElementType.Float16, AttentionElementType.Float16, 24, 40),
        (AttentionElementType.Float16, AttentionElementType.Float16, 256, 256),
        (AttentionElementType.Float32, AttentionElementType.Float32, 64, 64),
        (AttentionElementType.Float32, AttentionElementType.BFloat16, 80, 40),
        (AttentionElementType.Float32, AttentionElementType.Float16, 100, 33),
        (AttentionElementType.BFloat16, AttentionElementType.BFloat16, 576, 512),
    ];

    /// <summary>Seeds of the random problems.</summary>
    public static TheoryData<int> Seeds => [.. Enumerable.Range(0, 20)];

    [Theory]
    [MemberData(nameof(Seeds))]
    public void Calls_of_every_form_agree_with_the_oracle(int twenty)
    {
        var caller = new CudaApiCaller(Open());
        for (int seed = 730_000 + (20 * twenty); seed < 730_020 + (20 * twenty); seed++)
        {
            var generator = new ProblemGenerator(seed) { Specialisations = Specialisations };
            Problem problem = generator.NextProblem();
            CallResult result = Caller.Run(problem, generator.NextArrangement(Placement.Margins), caller);
            Gpu.GpuProblems.AssertClose(result, problem, RowByRow.Solve(problem), kernel: null);
        }
    }

    /// <summary>Long contexts, where keys are split: with the rows of a group and of a few queries, by the decode kernel and by the plain one.</summary>
    [Theory]
    [InlineData(1, 8, 2, 3000)]
    [InlineData(3, 8, 2, 5001)]
    [InlineData(1, 32, 1, 9000)]
    [InlineData(1, 4, 4, 40_000)]
    public void Split_contexts_agree_with_the_CPU(int queries, int heads, int keyValueHeads, int keys)
    {
        CompareSplit(queries, heads, keyValueHeads, keys, static x => (Half)x, static x => (float)x, 1e-3f);
        CompareSplit(queries, heads, keyValueHeads, keys, static x => (float)x, static x => x, 1e-5f);
    }

    private static void CompareSplit<T>(int queries, int heads, int keyValueHeads, int keys, Func<double, T> of, Func<T, float> value, float tolerance)
        where T : unmanaged
    {
        const int Dim = 64;
        CudaDevice device = Open();
        var random = new Random(7);
        T[] query = Noise(queries * heads), key = Noise(keys * keyValueHeads), values = Noise(keys * keyValueHeads), output = new T[query.Length], expected = new T[query.Length];
        using CudaTensor<T> q = device.Allocate<T>(queries, heads, Dim), k = device.Allocate<T>(keys, keyValueHeads, Dim), v = device.Allocate<T>(keys, keyValueHeads, Dim);
        using CudaTensor<T> o = device.Allocate<T>(queries, heads, Dim);
        q.CopyFrom(query);
        k.CopyFrom(key);
        v.CopyFrom(values);
        var options = new AttentionOptions { Mask = AttentionMask.Causal };

        // Twice: the counters of the first must not be seen by the second.
        for (int i = 0; i < 2; i++) CudaAttention.Forward(q, k, v, o, options);
        o.CopyTo(output);
        Attention.Forward(
            new ReadOnlyTensorSpan<T>(query, [queries, heads, Dim]), new ReadOnlyTensorSpan<T>(key, [keys, keyValueHeads, Dim]), new ReadOnlyTensorSpan<T>(values, [keys, keyValueHeads, Dim]),
            new TensorSpan<T>(expected, [queries, heads, Dim]), options);
        for (int i = 0; i < expected.Length; i++) Assert.InRange(value(output[i]), value(expected[i]) - tolerance, value(expected[i]) + tolerance);

        T[] Noise(int rows) => [.. Enumerable.Range(0, rows * Dim).Select(_ => of((random.NextDouble() * 2) - 1))];
    }

    [Fact]
    public void A_model_decodes_over_a_cache_that_only_the_GPU_writes()
    {
        const int Heads = 4, KeyValueHeads = 2, Dim = 64, Layers = 2;
        CudaDevice device = Open();
        using CudaStream stream = device.CreateStream();
        var options = new PagedKeyValueCacheOptions { Blocks = 24, BlockSize = 8, KeyValueHeads = KeyValueHeads, KeyDim = Dim, Layers = Layers };
        using var cache = new CudaPagedKeyValueCache<Half>(device, options);
        using var expected = new PagedKeyValueCache<Half>(options);
        var random = new Random(5);
        KeyValueCache[] caches = [cache, expected];
        PagedBatch[] batches = [cache.CreateBatch(), expected.CreateBatch()];
        var attention = new AttentionOptions { Mask = AttentionMask.Causal };

        // A prompt of 19, then single tokens; from the second step on a fork beside it, which shares a partial block.
        List<CacheSequence>[] sequences = [[cache.CreateSequence()], [expected.CreateSequence()]];
        int[][] steps = [[19], [1, 3], [1, 1], [2, 1]];
        foreach (int[] tokens in steps)
        {
            for (int c = 0; c < 2; c++)
            {
                while (sequences[c].Count < tokens.Length) sequences[c].Add(caches[c].Fork(sequences[c][0]));
                caches[c].Extend(sequences[c].ToArray(), tokens);
                batches[c].Clear();
                for (int s = 0; s < tokens.Length; s++) batches[c].Add(sequences[c][s], tokens[s]);
            }

            int total = tokens.Sum();
            for (int layer = 0; layer < Layers; layer++)
            {
                Half[] query = [.. Noise(total * Heads).Select(static x => (Half)x)];
                float[] keys = Noise(total * KeyValueHeads), values = Noise(total * KeyValueHeads);
                using CudaTensor<Half> q = device.Allocate<Half>(total, Heads, Dim), output = device.Allocate<Half>(total, Heads, Dim);
                using CudaTensor<float> k = device.Allocate<float>(total, KeyValueHeads, Dim), v = device.Allocate<float>(total, KeyValueHeads, Dim);
                q.CopyFrom(query, stream);
                k.CopyFrom(keys, stream);
                v.CopyFrom(values, stream);

                // The second layer from the host.
                if (layer == 0) cache.Write(layer, batches[0], k, v, stream);
                else cache.Write<float>(layer, batches[0], keys, values);
                CudaAttention.ForwardPaged(q, output, cache, layer, batches[0], attention, stream: stream);

                expected.Write<float>(layer, batches[1], keys, values);
                Half[] result = new Half[total * Heads * Dim], actual = new Half[total * Heads * Dim];
                Attention.ForwardPaged(new ReadOnlyTensorSpan<Half>(query, [total, Heads, Dim]), new TensorSpan<Half>(result, [total, Heads, Dim]), expected, layer, batches[1], attention);
                output.CopyTo(actual);
                for (int i = 0; i < result.Length; i++) Assert.InRange((float)actual[i], (float)result[i] - 2e-3f, (float)result[i] + 2e-3f);
                Assert.Contains(result, static x => x != Half.Zero);
            }
        }

        Assert.Equal(expected.FreeBlocks, cache.FreeBlocks);

        float[] Noise(int rows) => [.. Enumerable.Range(0, rows * Dim).Select(_ => (float)((random.NextDouble() * 2) - 1))];
    }

    [Fact]
    public void Parts_of_a_context_merge_into_the_whole()
    {
        const int Queries = 3, Keys = 150, Heads = 2, Dim = 64;
        CudaDevice device = Open();
        var random = new Random(6);
        float[] query = Noise(Queries), key = Noise(Keys), value = Noise(Keys);
        using CudaTensor<float> q = device.Allocate<float>(Queries, Heads, Dim), k = device.Allocate<float>(Keys, Heads, Dim), v = device.Allocate<float>(Keys, Heads, Dim);
        using CudaTensor<float> parts = device.Allocate<float>(2, Queries, Heads, Dim), lses = device.Allocate<float>(2, Heads, Queries);
        using CudaTensor<float> merged = device.Allocate<float>(Queries, Heads, Dim), lse = device.Allocate<float>(Heads, Queries);
        q.CopyFrom(query);
        k.CopyFrom(key);
        v.CopyFrom(value);

        // Nothing is waited for between the three calls.
        for (int part = 0; part < 2; part++)
        {
            var range = part == 0 ? 0..64 : 64..Keys;
            CudaAttention.Forward(
                q, k.Slice(range, .., ..), v.Slice(range, .., ..), parts.Slice(part..(part + 1), .., .., ..).Reshape(Queries, Heads, Dim),
                operands: new CudaOperands { LogSumExp = lses.Slice(part..(part + 1), .., ..).Reshape(Heads, Queries) });
        }

        CudaAttention.Merge(parts, lses, merged, lse, [0.5f, -1]);
        float[] expected = new float[Queries * Heads * Dim], expectedLse = new float[Heads * Queries], actual = new float[expected.Length], actualLse = new float[expectedLse.Length];
        Attention.Forward(
            new ReadOnlyTensorSpan<float>(query, [Queries, Heads, Dim]), new ReadOnlyTensorSpan<float>(key, [Keys, Heads, Dim]), new ReadOnlyTensorSpan<float>(value, [Keys, Heads, Dim]),
            new TensorSpan<float>(expected, [Queries, Heads, Dim]), new AttentionOptions { SinkLogits = [0.5f, -1] },
            new AttentionOperands { LogSumExp = new TensorSpan<float>(expectedLse, [Heads, Queries]) });
        merged.CopyTo(actual);
        lse.CopyTo(actualLse);
        for (int i = 0; i < expected.Length; i++) Assert.InRange(actual[i], expected[i] - 1e-5f, expected[i] + 1e-5f);
        for (int i = 0; i < expectedLse.Length; i++) Assert.InRange(actualLse[i], expectedLse[i] - 1e-5f, expectedLse[i] + 1e-5f);

        float[] Noise(int rows) => [.. Enumerable.Range(0, rows * Heads * Dim).Select(_ => (float)((random.NextDouble() * 2) - 1))];
    }

    private static CudaDevice Open()
    {
        Assert.SkipUnless(CudaDevice.IsSupported, CudaDevice.UnsupportedReason ?? "");
        return CudaDevice.Default;
    }
}
