using System.Numerics.Tensors;
using Xunit;

namespace FusedAttention.Tests;

public sealed class MergeTests
{
    private const double HalfUlp = 1.0 / 2048, BrainUlp = 1.0 / 256;

    [Theory]
    [InlineData(1, 1, 1, 1, 1)]
    [InlineData(2, 1, 3, 2, 64)]
    [InlineData(3, 2, 5, 4, 7)]
    [InlineData(7, 1, 2, 3, 513)]
    [InlineData(64, 2, 1, 1, 128)]
    [InlineData(2, 1, 1, 2, 1100)]
    public void Parts_merge_to_the_softmax_over_the_whole_context(int parts, int batch, int queries, int heads, int dim)
    {
        Run<float, float>(2e-6);
        Run<Half, Half>(2 * HalfUlp);
        Run<BFloat16, BFloat16>(2 * BrainUlp);
        Run<float, Half>(HalfUlp);
        Run<float, BFloat16>(BrainUlp);
        Run<Half, float>(HalfUlp);
        Run<BFloat16, float>(BrainUlp);
        Run<Half, BFloat16>(HalfUlp + BrainUlp);
        Run<BFloat16, Half>(HalfUlp + BrainUlp);

        void Run<TPartial, TOutput>(double tolerance)
            where TPartial : unmanaged
            where TOutput : unmanaged
        {
            foreach (bool withSink in new[] { false, true })
            {
                foreach (bool packed in new[] { true, false })
                {
                    foreach (bool withBatch in batch == 1 ? new[] { true, false } : [true])
                    {
                        var c = new SplitContext(parts, batch, queries, heads, dim, withSink, seed: parts + dim);
                        c.MergeAndCompare<TPartial, TOutput>(tolerance, packed, withBatch);
                    }
                }
            }
        }
    }

    [Fact]
    public void A_part_that_saw_no_key_has_no_weight_whatever_it_holds()
    {
        float none = float.NegativeInfinity;
        AssertMerged([3f, -4f], 5f, Merge([[float.NaN, float.PositiveInfinity], [3, -4], [float.NaN, 7]], [none, 5, none]));
        AssertMerged([0f, 0f], none, Merge([[float.NaN, 1], [2, float.NaN]], [none, none]));
        AssertMerged([0f, 0f], 0.5f, Merge([[float.NaN, 1], [2, float.NaN]], [none, none], sink: 0.5f));
        AssertMerged([1f, 2f], 3f, Merge([[1, 2]], [3], sink: none));
        AssertMerged([0f, 0f], none, Merge([[1, 2]], [none], sink: none));

        (float[] o, float lse) = Merge([[1, 2], [3, 4]], [float.NaN, 0]);
        Assert.True(float.IsNaN(o[0]) && float.IsNaN(o[1]) && float.IsNaN(lse));
    }

    /// <summary>What a key that the row saw holds shows, though its part's weight is no longer a float: exactly computed it is small, not zero.</summary>
    [Theory]
    [InlineData(new[] { 0f, -1000f })]
    [InlineData(new[] { -1000f, 0f })]
    [InlineData(new[] { 3e30f, -3e30f })]
    public void An_infinite_element_stays_so_though_its_parts_weight_vanishes(float[] logSumExps)
    {
        const float Infinity = float.PositiveInfinity;
        int heavy = logSumExps[0] > logSumExps[1] ? 0 : 1;
        float[] part = [1, 2, -3, 4], light = [Infinity, -Infinity, float.NaN, float.MaxValue];
        AssertMerged([Infinity, -Infinity, float.NaN, 4], logSumExps[heavy], Merge(heavy == 0 ? [part, light] : [light, part], logSumExps));

        // One of each sign is the sum of an infinity and its opposite.
        AssertMerged([float.NaN, 2], logSumExps[heavy], Merge(heavy == 0 ? [[-Infinity, 2], [Infinity, 0]] : [[Infinity, 0], [-Infinity, 2]], logSumExps));
        AssertMerged([Infinity, 0], 1000, Merge([[Infinity, 7]], [0], sink: 1000));
    }

    [Fact]
    public void One_part_comes_out_with_its_bits()
    {
        float[] part = [-0f, 1e-40f, float.MaxValue, 1f / 3];
        (float[] o, float lse) = Merge([part], [-123.456f]);
        Assert.Equal(part.Select(BitConverter.SingleToUInt32Bits), o.Select(BitConverter.SingleToUInt32Bits));
        Assert.Equal(-123.456f, lse);
    }

    [Fact]
    public void Far_apart_and_huge_log_sum_exps_neither_overflow_nor_vanish()
    {
        AssertMerged([1f], 40_000f, Merge([[1], [2]], [40_000, -40_000]));
        (float[] o, float lse) = Merge([[1], [2]], [1e30f, 1e30f]);
        Assert.Equal((1.5f, 1e30f), (o[0], lse));
        (o, lse) = Merge([[2]], [0], sink: 0);
        Assert.Equal((1f, (float)Math.Log(2)), (o[0], lse));
    }

    [Fact]
    public void Merging_in_two_steps_is_merging_at_once()
    {
        var c = new SplitContext(parts: 4, batch: 1, queries: 3, heads: 2, dim: 16, withSink: false, seed: 1);
        (float[] left, float[] leftLse) = c.MergeParts(0, 2);
        (float[] right, float[] rightLse) = c.MergeParts(2, 4);
        (float[] all, float[] allLse) = c.MergeParts(0, 4);
        var output = new float[all.Length];
        var lse = new float[allLse.Length];
        Attention.Merge(Stack(left, right, [2, 3, 2, 16]), Stack(leftLse, rightLse, [2, 2, 3]), new TensorSpan<float>(output, [3, 2, 16]), new TensorSpan<float>(lse, [2, 3]));
        for (int i = 0; i < all.Length; i++) Assert.Equal(all[i], output[i], 1e-6);
        for (int i = 0; i < lse.Length; i++) Assert.Equal(allLse[i], lse[i], 1e-6);

        static ReadOnlyTensorSpan<float> Stack(float[] first, float[] second, ReadOnlySpan<nint> lengths) => new((float[])[.. first, .. second], lengths);
    }

    [Fact]
    public void Tensors_merge_like_spans_and_the_log_sum_exp_may_be_left_out()
    {
        Tensor<float> parts = Tensor.Create([1f, 2, 3, 4], [2, 1, 1, 2]), lses = Tensor.Create([0f, 0], [2, 1, 1]);
        Tensor<Half> output = Tensor.CreateFromShape<Half>([1, 1, 2]);
        Tensor<float> lse = Tensor.CreateFromShape<float>([1, 1]);
        Attention.Merge(parts, lses, output);
        Assert.Equal([(Half)2, (Half)3], [output[0, 0, 0], output[0, 0, 1]]);
        Attention.Merge(parts, lses, output, lse, [(float)Math.Log(2)]);
        Assert.Equal([(Half)1, (Half)1.5], [output[0, 0, 0], output[0, 0, 1]]);
        Assert.Equal((float)Math.Log(4), lse[0, 0], 1e-6);
        Assert.Throws<ArgumentNullException>("partialOutputs", () => Attention.Merge<float, float>((Tensor<float>)null!, lses, parts));
        Assert.Throws<ArgumentNullException>("partialLogSumExps", () => Attention.Merge(parts, null!, output));
        Assert.Throws<ArgumentNullException>("output", () => Attention.Merge<float, float>(parts, lses, null!));
    }

    [Fact]
    public void Nothing_to_merge_is_fine()
    {
        Attention.Merge(new ReadOnlyTensorSpan<float>(new float[1], [2, 0, 3, 4]), new ReadOnlyTensorSpan<float>(new float[1], [2, 3, 0]), new TensorSpan<float>(new float[1], [0, 3, 4]));
        Attention.Merge(new ReadOnlyTensorSpan<float>(new float[1], [2, 1, 0, 4]), new ReadOnlyTensorSpan<float>(new float[1], [2, 0, 1]), new TensorSpan<float>(new float[1], [1, 0, 4]), new TensorSpan<float>(new float[1], [0, 1]));
    }

    private static void AssertMerged(float[] output, float logSumExp, (float[] Output, float LogSumExp) merged)
    {
        Assert.Equal(output, merged.Output);
        Assert.Equal(logSumExp, merged.LogSumExp);
    }

    private static (float[] Output, float LogSumExp) Merge(float[][] parts, float[] lses, float? sink = null)
    {
        var output = new float[parts[0].Length];
        var lse = new float[1];
        output.AsSpan().Fill(float.NaN);
        float[] sinks = sink is float s ? [s] : [];
        Attention.Merge(
            new ReadOnlyTensorSpan<float>(parts.SelectMany(static p => p).ToArray(), [parts.Length, 1, 1, output.Length]),
            new ReadOnlyTensorSpan<float>(lses, [parts.Length, 1, 1]),
            new TensorSpan<float>(output, [1, 1, output.Length]),
            new TensorSpan<float>(lse, [1, 1]),
            sinks);
        return (output, lse[0]);
    }
}
