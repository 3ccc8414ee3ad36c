using Xunit;

namespace FusedAttention.Cuda.Tests.Gpu;

/// <summary>Tensors whose elements lie further apart than 2^31 elements, in an allocation of 5 GB for what is read and one for what is written: the bits of the same numbers side by side.</summary>
public abstract class FarTests
{
    private protected FarTests(TestDevice device) => Problems = new(device);

    private GpuProblems Problems { get; }

    private const int Tokens = 40;
    private const int Heads = 2;

    /// <summary>Elements from one token to the next: the last one begins 39 times that far, 2.6e9.</summary>
    private const int Stride = 1 << 26;

    private static readonly nint ElementCount = unchecked((nint)((long)Tokens * Stride));

    [Theory]
    [InlineData(Tokens, 64)]
    [InlineData(1, 128)]
    [InlineData(3, 64)]
    [InlineData(Tokens, 60)]
    [InlineData(1, 60)]
    public void Dense_and_packed_calls_reach_far(int queries, int dim)
    {
        CudaDevice device = Open();
        using CudaTensor<Half> input = device.Allocate<Half>(ElementCount), output = device.Allocate<Half>(ElementCount);
        Half[] q = Noise(1, queries * Heads * dim), k = Noise(2, Tokens * Heads * dim), v = Noise(3, Tokens * Heads * dim), bias = Noise(4, queries * Tokens);
        using CudaTensor<Half> q0 = Dense(q, queries, Heads, dim), k0 = Dense(k, Tokens, Heads, dim), v0 = Dense(v, Tokens, Heads, dim), o0 = device.Allocate<Half>(queries, Heads, dim), bias0 = Dense(bias, queries, Tokens);

        // The one head lies half a stride behind the other; the queries are the last ones, so that few of them lie far out too.
        int first = Tokens - queries;
        CudaTensor<Half> q1 = Far(input, q, first, 0, dim), k1 = Far(input, k, 0, 1 << 16, dim), v1 = Far(input, v, 0, 1 << 17, dim);
        CudaTensor<Half> o1 = output.View((nint)first * Stride, [queries, Heads, dim], [Stride, Stride / 2, 1]);
        CudaTensor<Half> bias1 = input.View(((nint)first * Stride) + (1 << 18), [queries, Tokens], [Stride, 1]);
        for (int i = 0; i < queries; i++) input.View(((nint)(first + i) * Stride) + (1 << 18), [Tokens], [1]).CopyFrom(bias.AsSpan(i * Tokens, Tokens));
        var options = new AttentionOptions { Mask = AttentionMask.Causal };
        int[] queryLengths = [0, queries], keyLengths = [0, Tokens];
        foreach (bool isPacked in (bool[])[false, true])
        {
            foreach (bool hasBias in (bool[])[false, true])
            {
                CudaOperands near = hasBias ? new() { Bias = bias0 } : default, far = hasBias ? new() { Bias = bias1 } : default;
                if (isPacked)
                {
                    CudaAttention.ForwardVariableLength(q0, k0, v0, o0, queryLengths, keyLengths, options, near);
                    CudaAttention.ForwardVariableLength(q1, k1, v1, o1, queryLengths, keyLengths, options, far);
                }
                else
                {
                    CudaAttention.Forward(q0, k0, v0, o0, options, near);
                    CudaAttention.Forward(q1, k1, v1, o1, options, far);
                }

                Half[] expected = new Half[queries * Heads * dim], actual = new Half[expected.Length];
                o0.CopyTo(expected);
                for (int row = 0; row < queries * Heads; row++)
                    output.View(((nint)(first + (row / Heads)) * Stride) + (row % Heads * (Stride / 2)), [dim], [1]).CopyTo(actual.AsSpan(row * dim, dim));
                for (int i = 0; i < expected.Length; i++)
                {
                    Assert.True(
                        BitConverter.HalfToUInt16Bits(expected[i]) == BitConverter.HalfToUInt16Bits(actual[i]),
                        $"query {i / dim / Heads}, head {i / dim % Heads}, dim {i % dim} is {actual[i]}, not {expected[i]}; {queries} queries of {dim}, {(isPacked ? "packed" : "dense")}, {(hasBias ? "with" : "without")} a bias");
                }
            }
        }

        CudaTensor<Half> Dense(Half[] numbers, params nint[] lengths)
        {
            CudaTensor<Half> tensor = device.Allocate<Half>(lengths);
            tensor.CopyFrom(numbers);
            return tensor;
        }
    }

    /// <summary>The last blocks of a cache of more than 2^31 elements.</summary>
    [Theory]
    [InlineData(Tokens, 128)]
    [InlineData(1, 128)]
    [InlineData(2, 64)]
    [InlineData(5, 60)]
    public void Paged_calls_and_appending_reach_far(int queries, int dim)
    {
        const int BlockSize = 16;
        CudaDevice device = Open();
        int blocks = (int)(ElementCount / (BlockSize * Heads * dim));
        using var cache = new CudaPagedKeyValueCache<Half>(device, new() { Blocks = blocks, BlockSize = BlockSize, KeyValueHeads = Heads, KeyDim = dim });
        using var small = new CudaPagedKeyValueCache<Half>(device, new() { Blocks = 4, BlockSize = BlockSize, KeyValueHeads = Heads, KeyDim = dim });

        // Blocks are given in order: one sequence holds all but the last five, and every second one of those.
        CacheSequence filler = cache.CreateSequence();
        cache.Extend(filler, (blocks - 5) * BlockSize);
        CacheSequence sequence = cache.CreateSequence(), expectedSequence = small.CreateSequence();
        using CudaTensor<Half> q = device.Allocate<Half>(queries, Heads, dim), k = device.Allocate<Half>(Tokens, Heads, dim), v = device.Allocate<Half>(Tokens, Heads, dim);
        using CudaTensor<Half> o = device.Allocate<Half>(queries, Heads, dim), o0 = device.Allocate<Half>(queries, Heads, dim);
        q.CopyFrom(Noise(1, queries * Heads * dim));
        k.CopyFrom(Noise(2, Tokens * Heads * dim));
        v.CopyFrom(Noise(3, Tokens * Heads * dim));
        cache.Append(sequence, k, v);
        small.Append(expectedSequence, k, v);
        int[] table = new int[3];
        cache.CopyBlockTable(sequence, table);
        Assert.True((long)table[2] * BlockSize * Heads * dim > int.MaxValue, $"block {table[2]} of {blocks}");
        PagedBatch batch = cache.CreateBatch(), expectedBatch = small.CreateBatch();
        batch.Add(sequence, queries);
        expectedBatch.Add(expectedSequence, queries);
        var options = new AttentionOptions { Mask = AttentionMask.Causal };
        CudaAttention.ForwardPaged(q, o, cache, 0, batch, options);
        CudaAttention.ForwardPaged(q, o0, small, 0, expectedBatch, options);
        Half[] actual = new Half[queries * Heads * dim], expected = new Half[actual.Length];
        o.CopyTo(actual);
        o0.CopyTo(expected);
        Assert.Contains(expected, static x => x != Half.Zero);
        for (int i = 0; i < expected.Length; i++)
            Assert.True(BitConverter.HalfToUInt16Bits(expected[i]) == BitConverter.HalfToUInt16Bits(actual[i]), $"query {i / dim / Heads}, head {i / dim % Heads}, dim {i % dim} is {actual[i]}, not {expected[i]}; blocks [{string.Join(' ', table)}] of {blocks}");
    }

    private CudaDevice Open()
    {
        CudaDevice device = Problems.Open();
        Assert.SkipUnless(device.MemoryBytes > 14L << 30, $"{device} has {device.MemoryBytes >> 30} GB; this takes 11.");
        return device;
    }

    private static CudaTensor<Half> Far(CudaTensor<Half> memory, Half[] numbers, int first, int offset, int dim)
    {
        int rows = numbers.Length / dim;
        for (int row = 0; row < rows; row++)
            memory.View(((nint)(first + (row / Heads)) * Stride) + offset + (row % Heads * (Stride / 2)), [dim], [1]).CopyFrom(numbers.AsSpan(row * dim, dim));
        return memory.View(((nint)first * Stride) + offset, [rows / Heads, Heads, dim], [Stride, Stride / 2, 1]);
    }

    private static Half[] Noise(int seed, int count) => [.. new ProblemGenerator(seed).Numbers(count, 1, AttentionElementType.Float16).Select(static x => (Half)x)];
}
