using System.Numerics.Tensors;
using Xunit;

namespace FusedAttention.Tests;

/// <summary>
/// The examples of the README: the lines between two markers of this file stand there word for word, under a comment that names them
/// (<see cref="ReadmeTests"/> compares). Here they are compiled, run, and checked.
/// </summary>
public sealed class ReadmeExamples
{
    [Fact]
    public void Prefill()
    {
        // README: Prefill
        // 2 sequences of 512 tokens, 8 query heads that share 2 key/value heads, 64 dimensions a head.
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
    public void Explain()
    {
        // README: Explain
        var shape = new AttentionShape(batch: 1, queryLength: 2048, keyLength: 2048, queryHeads: 32, keyValueHeads: 8, keyDim: 128);
        AttentionExplanation explanation = Attention.Explain<float, float>(shape, new AttentionOptions { Mask = AttentionMask.Causal });
        Console.WriteLine(explanation); // backend, kernel, instruction set, threads, arithmetic, tiles and the reasons for them
        // README: end
        Assert.Equal("cpu", explanation.Backend);
    }
}
