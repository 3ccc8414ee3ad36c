using System.Numerics.Tensors;
using Xunit;

namespace FusedAttention.Tests;

/// <summary>A row's bits follow from the keys that it may see: neither the capacity behind them shows, nor the way in which the rest is hidden.</summary>
public sealed class VisibleBitsTests
{
    private static readonly string[] Ways = ["key lengths", "mask", "bias", "binary16 bias", "causal", "window"];

    [Slow]
    [Theory]
    [InlineData(false, 4, 2, 32, 1)]
    [InlineData(true, 4, 2, 32, 1)]
    [InlineData(false, 8, 8, 128, 1)]
    [InlineData(false, 8, 2, 64, 3)]
    [InlineData(false, 4, 4, 32, 30)]
    public void Capacity_and_the_way_of_hiding_do_not_show(bool rowInvariant, int heads, int keyValueHeads, int dim, int queries)
    {
        const int Visible = 700;     // more than a chunk
        const int Most = 70_000;
        (float[] key, float[] value) = KeysAndValues(Most, Visible, keyValueHeads * dim);
        foreach (int threads in new[] { 1, 3 })
        {
            // A bias is added to scaled scores, where the other ways scale in the exponential: its bits are its own.
            var first = new Dictionary<bool, float[]>();
            foreach (int keys in new[] { Visible, Visible + 1, 1023, 1100, 32_769, Most })
            {
                foreach (string way in Ways)
                {
                    float[] output = Run(key, value, keys, way, new AttentionOptions { RowInvariant = rowInvariant }, Visible, heads, keyValueHeads, dim, queries, threads);
                    float[] expected = first.TryGetValue(way.Contains("bias", StringComparison.Ordinal), out float[]? known) ? known : first[way.Contains("bias", StringComparison.Ordinal)] = output;
                    Assert.True(expected.AsSpan().SequenceEqual(output), $"{way} with room for {keys} keys, {threads} threads");
                }
            }
        }
    }

    /// <summary>More keys than one block of long sums, the rest hidden: the sums of a later block that a row does not see leave it alone.</summary>
    [Fact]
    public void Long_contexts_follow_the_visible_keys_too()
    {
        const int Visible = 33_000;
        const int Most = 66_000;
        (float[] key, float[] value) = KeysAndValues(Most, Visible, 8);
        float[]? first = null;
        foreach (int keys in new[] { Visible, 33_100, Most })
        {
            foreach (string way in new[] { "key lengths", "mask", "causal" })
            {
                float[] output = Run(key, value, keys, way, new AttentionOptions { RowInvariant = true }, Visible, 1, 1, 8, 1);
                first ??= output;
                Assert.True(first.AsSpan().SequenceEqual(output), $"{way} with room for {keys} keys");
            }
        }
    }

    /// <summary>Made once for all capacities, which take their beginning: filling them anew for each took nine tenths of the time. Hidden ones would win if they showed.</summary>
    private static (float[] Key, float[] Value) KeysAndValues(int most, int visible, int rowFloats)
    {
        float[] key = new float[most * rowFloats], value = new float[key.Length];
        for (int i = 0; i < visible * rowFloats; i++) (key[i], value[i]) = (MathF.Sin(1.3f * i), MathF.Cos(0.9f * i));
        key.AsSpan(visible * rowFloats).Fill(50);
        value.AsSpan(visible * rowFloats).Fill(1000);
        return (key, value);
    }

    private static float[] Run(
        float[] key, float[] value, int keys, string way, AttentionOptions options, int visible, int heads, int keyValueHeads, int dim, int queries, int threads = -1)
    {
        int length = keys * keyValueHeads * dim;
        float[] query = new float[queries * heads * dim], output = new float[query.Length];
        for (int i = 0; i < query.Length; i++) query[i] = MathF.Sin(0.7f * i);
        bool[] mask = new bool[keys];
        mask.AsSpan(0, visible).Fill(true);
        float[] bias = new float[keys];
        bias.AsSpan(visible).Fill(float.NegativeInfinity);
        Half[] halfBias = Array.ConvertAll(bias, x => (Half)x);
        options = way switch
        {
            // Every query at or behind the last visible key, so that all ways hide the same.
            "causal" => queries == 1 ? options with { Mask = AttentionMask.Causal, QueryOffset = visible - 1 } : options with { Mask = AttentionMask.Window(null, 0), QueryOffset = visible - 1 },
            "window" => options with { Mask = AttentionMask.Window(visible + queries, 0), QueryOffset = visible - 1 },
            _ => options,
        };
        var operands = new AttentionOperands();
        if (way is "key lengths" || (queries > 1 && way is "causal" or "window")) operands.KeyLengths = new[] { visible };
        if (way is "mask") operands.BooleanMask = new ReadOnlyTensorSpan<bool>(mask, [keys]);
        if (way is "bias") operands.Bias = new ReadOnlyTensorSpan<float>(bias, [keys]);
        if (way is "binary16 bias") operands.Bias = new ReadOnlyTensorSpan<Half>(halfBias, [keys]);
        Attention.Forward<float, float>(query, key.AsSpan(0, length), value.AsSpan(0, length), output, new AttentionShape(1, queries, keys, heads, keyValueHeads, dim), options, operands, new() { MaxDegreeOfParallelism = threads });
        return output;
    }
}
