using System.Numerics.Tensors;
using System.Runtime.InteropServices;
using FusedAttention.Metal.Emulation;
using Xunit;

namespace FusedAttention.Metal.Tests.Host;

/// <summary>The public calls from end to end, on the emulator and on the GPU of this machine if it has one: against the oracle, and against the CPU.</summary>
public sealed class MetalApiTests : IDisposable
{
    private EmulatedRuntime? _emulator;

    public enum Device
    {
        Emulator,
        OfThisMachine,
    }

    public void Dispose() => _emulator?.Dispose();

    /// <summary>On the emulator a few, since the kernels have their own sweeps there; on a device, where a call takes no time, many.</summary>
    [Theory]
    [InlineData(Device.Emulator, 12)]
    [InlineData(Device.OfThisMachine, 400)]
    public void Calls_of_every_form_agree_with_the_oracle(Device which, int problems)
    {
        var caller = new MetalApiCaller(Open(which));
        var forms = new HashSet<CallForm>();
        for (int seed = 710_000; seed < 710_000 + problems; seed++)
        {
            ProblemGenerator generator = MetalProblems.Generator(seed);
            Problem problem = generator.NextProblem();
            Caller.Run(problem, generator.NextArrangement(Placement.Margins), caller).AssertClose(problem, RowByRow.Solve(problem));
            forms.Add(problem.Form);
        }

        Assert.Equal(3, forms.Count);
    }

    [Theory]
    [InlineData(Device.Emulator)]
    [InlineData(Device.OfThisMachine)]
    public void A_model_decodes_over_a_cache_that_only_the_GPU_writes(Device which)
    {
        const int Heads = 4, KeyValueHeads = 2, Dim = 64, Layers = 2;
        MetalDevice device = Open(which);
        var options = new PagedKeyValueCacheOptions { Blocks = 24, BlockSize = 8, KeyValueHeads = KeyValueHeads, KeyDim = Dim, Layers = Layers };
        using var cache = new MetalPagedKeyValueCache<Half>(device, options);
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
                using MetalTensor<Half> query = Noise(static x => (Half)x, total * Heads).Reshape(total, Heads, Dim), output = device.Allocate<Half>(total, Heads, Dim);
                using MetalTensor<float> keys = Noise(static x => (float)x, total * KeyValueHeads), values = Noise(static x => (float)x, total * KeyValueHeads);
                cache.Write(layer, batches[0], keys.Reshape(total, KeyValueHeads, Dim), values.Reshape(total, KeyValueHeads, Dim));
                MetalAttention.ForwardPaged(query, output, cache, layer, batches[0], attention);

                expected.Write<float>(layer, batches[1], keys.AsReadOnlySpan(), values.AsReadOnlySpan());
                var result = new Half[total * Heads * Dim];
                Attention.ForwardPaged(query.AsReadOnlyTensorSpan(), new TensorSpan<Half>(result, [total, Heads, Dim]), expected, layer, batches[1], attention);
                for (int i = 0; i < result.Length; i++) Assert.InRange((float)output.AsReadOnlySpan()[i], (float)result[i] - 2e-3f, (float)result[i] + 2e-3f);
                Assert.Contains(result, static x => x != Half.Zero);
            }
        }

        Assert.Equal(expected.FreeBlocks, cache.FreeBlocks);

        MetalTensor<T> Noise<T>(Func<double, T> of, int rows)
            where T : unmanaged
        {
            MetalTensor<T> tensor = device.Allocate<T>(rows * Dim);
            foreach (ref T x in tensor.AsSpan()) x = of((random.NextDouble() * 2) - 1);
            return tensor;
        }
    }

    [Theory]
    [InlineData(Device.Emulator)]
    [InlineData(Device.OfThisMachine)]
    public void Parts_of_a_context_merge_into_the_whole(Device which)
    {
        const int Queries = 3, Keys = 150, Heads = 2, Dim = 64;
        MetalDevice device = Open(which);
        var random = new Random(6);
        using MetalTensor<float> query = Noise(Queries, Heads, Dim), key = Noise(Keys, Heads, Dim), value = Noise(Keys, Heads, Dim);
        using MetalTensor<float> parts = device.Allocate<float>(2, Queries, Heads, Dim), lses = device.Allocate<float>(2, Heads, Queries);
        using MetalTensor<float> merged = device.Allocate<float>(Queries, Heads, Dim), lse = device.Allocate<float>(Heads, Queries);

        // Nothing is waited for between the three calls.
        for (int part = 0; part < 2; part++)
        {
            var range = part == 0 ? 0..64 : 64..Keys;
            MetalAttention.Forward(
                query, key.Slice(range, .., ..), value.Slice(range, .., ..), parts.Slice(part..(part + 1), .., .., ..).Reshape(Queries, Heads, Dim),
                operands: new MetalOperands { LogSumExp = lses.Slice(part..(part + 1), .., ..).Reshape(Heads, Queries) });
        }

        MetalAttention.Merge(parts, lses, merged, lse, [0.5f, -1]);
        var expected = new float[Queries * Heads * Dim];
        var expectedLse = new float[Heads * Queries];
        Attention.Forward(
            query.AsReadOnlyTensorSpan(), key.AsReadOnlyTensorSpan(), value.AsReadOnlyTensorSpan(), new TensorSpan<float>(expected, [Queries, Heads, Dim]),
            new AttentionOptions { SinkLogits = [0.5f, -1] }, new AttentionOperands { LogSumExp = new TensorSpan<float>(expectedLse, [Heads, Queries]) });
        for (int i = 0; i < expected.Length; i++) Assert.InRange(merged.AsReadOnlySpan()[i], expected[i] - 1e-5f, expected[i] + 1e-5f);
        for (int i = 0; i < expectedLse.Length; i++) Assert.InRange(lse.AsReadOnlySpan()[i], expectedLse[i] - 1e-5f, expectedLse[i] + 1e-5f);

        MetalTensor<float> Noise(params ReadOnlySpan<nint> lengths)
        {
            MetalTensor<float> tensor = device.Allocate<float>(lengths);
            foreach (ref float x in tensor.AsSpan()) x = (float)((random.NextDouble() * 2) - 1);
            return tensor;
        }
    }

    /// <summary>Layers that write, attend and merge, with copies on write between them, in one command buffer and one by one.</summary>
    [Theory]
    [InlineData(Device.Emulator)]
    [InlineData(Device.OfThisMachine)]
    public void A_batch_has_the_bits_of_its_calls(Device which)
    {
        const int Layers = 3, Tokens = 21, Heads = 4, KeyValueHeads = 2, Dim = 64;
        MetalDevice device = Open(which);
        ushort[] alone = Step(isBatched: false);
        Assert.Equal(alone, Step(isBatched: true));
        Assert.Contains(alone, static bits => bits != 0);

        ushort[] Step(bool isBatched)
        {
            using var cache = new MetalPagedKeyValueCache<Half>(device, new PagedKeyValueCacheOptions { Layers = Layers, Blocks = 20, BlockSize = 8, KeyValueHeads = KeyValueHeads, KeyDim = Dim });
            CacheSequence first = cache.CreateSequence();
            cache.Extend(first, Tokens);
            PagedBatch prompt = cache.CreateBatch(), next = cache.CreateBatch();
            prompt.Add(first, Tokens);
            using MetalTensor<Half> query = Noise(Tokens, Heads, Dim), output = device.Allocate<Half>(Layers, Tokens, Heads, Dim), merged = device.Allocate<Half>(1, Heads, Dim);
            using MetalTensor<Half> rows = Noise(Layers, Tokens, KeyValueHeads, Dim), second = device.Allocate<Half>(2, 1, Heads, Dim);
            using MetalTensor<float> lses = device.Allocate<float>(2, Heads, 1);
            if (isBatched)
            {
                using (device.Batch()) Run();
            }
            else
            {
                Run();
            }

            return MemoryMarshal.Cast<Half, ushort>((Half[])[.. output.AsReadOnlySpan(), .. second.AsReadOnlySpan(), .. merged.AsReadOnlySpan()]).ToArray();

            void Run()
            {
                for (int layer = 0; layer < Layers; layer++)
                {
                    MetalTensor<Half> keys = rows.Slice(layer..(layer + 1), .., .., ..).Reshape(Tokens, KeyValueHeads, Dim);
                    cache.Write(layer, prompt, keys, keys);
                    MetalAttention.ForwardPaged(query, output.Slice(layer..(layer + 1), .., .., ..).Reshape(Tokens, Heads, Dim), cache, layer, prompt, new AttentionOptions { Mask = AttentionMask.Causal });
                }

                // The fork's last block is copied, behind the writes and before its own; both are then attended to, and merged.
                CacheSequence fork = cache.Fork(first);
                MetalTensor<Half> one = rows.Slice(0..1, 3..4, .., ..).Reshape(1, KeyValueHeads, Dim), oneQuery = query.Slice(0..1, .., ..);
                cache.Write(0, fork, Tokens - 1, one, one);
                foreach (CacheSequence sequence in (CacheSequence[])[first, fork])
                {
                    next.Clear();
                    next.Add(sequence, 1);
                    int part = sequence == first ? 0 : 1;
                    MetalAttention.ForwardPaged(
                        oneQuery, second.Slice(part..(part + 1), .., .., ..).Reshape(1, Heads, Dim), cache, 0, next,
                        operands: new MetalOperands { LogSumExp = lses.Slice(part..(part + 1), .., ..).Reshape(Heads, 1) });
                }

                MetalAttention.Merge(second, lses, merged);
            }
        }

        MetalTensor<Half> Noise(params ReadOnlySpan<nint> lengths)
        {
            var random = new Random(5);
            MetalTensor<Half> tensor = device.Allocate<Half>(lengths);
            foreach (ref Half x in tensor.AsSpan()) x = (Half)((random.NextDouble() * 2) - 1);
            return tensor;
        }
    }

    private MetalDevice Open(Device which)
    {
        if (which == Device.Emulator) return new MetalDevice(_emulator = MetalProblems.Start());
        if (MetalDevice.IsSupported) return MetalDevice.Default;
        Assert.Skip($"Metal is not available: {MetalDevice.UnsupportedReason}");
        return null!;
    }
}
