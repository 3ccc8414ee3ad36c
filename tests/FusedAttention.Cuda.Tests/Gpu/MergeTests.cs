using System.Numerics.Tensors;
using Xunit;

namespace FusedAttention.Cuda.Tests.Gpu;

/// <summary>The merge kernel against the CPU's.</summary>
public abstract class MergeTests
{
    private protected MergeTests(TestDevice device) => Problems = new(device);

    private GpuProblems Problems { get; }

    [Theory]
    [InlineData(1, 1, 1, 1, 1)]
    [InlineData(2, 1, 3, 2, 64)]
    [InlineData(3, 2, 5, 4, 7)]
    [InlineData(7, 1, 2, 3, 513)]
    [InlineData(64, 2, 1, 1, 128)]
    [InlineData(2, 3, 129, 40, 128)]
    public void Parts_merge_as_on_the_CPU(int parts, int batch, int queries, int heads, int dim)
    {
        CudaDevice device = Problems.Open();
        queries = Problems.Target.Tokens(queries);
        foreach (bool sinks in (bool[])[false, true])
        {
            Compare<float, float>(device, parts, batch, queries, heads, dim, sinks, 1e-6);
            Compare<Half, float>(device, parts, batch, queries, heads, dim, sinks, 1e-6);
            Compare<BFloat16, float>(device, parts, batch, queries, heads, dim, sinks, 1e-6);
            Compare<float, Half>(device, parts, batch, queries, heads, dim, sinks, 1.0 / 1024);
            Compare<float, BFloat16>(device, parts, batch, queries, heads, dim, sinks, 1.0 / 128);
            Compare<Half, BFloat16>(device, parts, batch, queries, heads, dim, sinks, 1.0 / 128);
            Compare<BFloat16, BFloat16>(device, parts, batch, queries, heads, dim, sinks, 1.0 / 128);
        }
    }

    [Fact]
    public void A_part_that_saw_no_key_has_no_weight_whatever_it_holds()
    {
        CudaDevice device = Problems.Open();
        float none = float.NegativeInfinity;
        AssertMerged([3f, -4f], 5f, Merge(device, [[float.NaN, float.PositiveInfinity], [3, -4], [float.NaN, 7]], [none, 5, none]));
        AssertMerged([0f, 0f], none, Merge(device, [[float.NaN, 1], [2, float.NaN]], [none, none]));
        AssertMerged([0f, 0f], 0.5f, Merge(device, [[float.NaN, 1], [2, float.NaN]], [none, none], sink: 0.5f));
        AssertMerged([1f, 2f], 3f, Merge(device, [[1, 2]], [3], sink: none));
        AssertMerged([0f, 0f], none, Merge(device, [[1, 2]], [none], sink: none));
        foreach (float bad in (float[])[float.NaN, float.PositiveInfinity])
        {
            (float[] o, float lse) = Merge(device, [[1, 2], [3, 4]], [bad, 0]);
            Assert.True(float.IsNaN(o[0]) && float.IsNaN(o[1]) && float.IsNaN(lse), $"{o[0]} {o[1]} {lse}");
        }
    }

    [Fact]
    public void One_part_comes_out_with_its_bits()
    {
        float[] part = [-0f, 1e-30f, float.MaxValue, 1f / 3];
        (float[] o, float lse) = Merge(Problems.Open(), [part], [-123.456f]);
        Assert.Equal(part, o);
        Assert.Equal(-123.456f, lse);
    }

    private static void AssertMerged(float[] expected, float expectedLse, (float[] Output, float LogSumExp) actual)
    {
        Assert.Equal(expected, actual.Output);
        Assert.Equal(expectedLse, actual.LogSumExp);
    }

    private static (float[] Output, float LogSumExp) Merge(CudaDevice device, float[][] parts, float[] lses, float? sink = null)
    {
        int dim = parts[0].Length;
        using CudaTensor<float> all = device.Allocate<float>(parts.Length, 1, 1, dim), weights = device.Allocate<float>(parts.Length, 1, 1), output = device.Allocate<float>(1, 1, dim), lse = device.Allocate<float>(1, 1);
        all.CopyFrom([.. parts.SelectMany(static part => part)]);
        weights.CopyFrom(lses);
        CudaAttention.Merge(all, weights, output, lse, sink is float s ? [s] : []);
        float[] o = new float[dim], l = new float[1];
        output.CopyTo(o);
        lse.CopyTo(l);
        return (o, l[0]);
    }

    private static void Compare<TPartial, TOutput>(CudaDevice device, int parts, int batch, int queries, int heads, int dim, bool withSinks, double tolerance)
        where TPartial : unmanaged
        where TOutput : unmanaged
    {
        var generator = new ProblemGenerator(parts + dim);
        TPartial[] partials = Elements.FromAll<TPartial>(generator.Numbers(parts * batch * queries * heads * dim, 1, Elements.TypeOf<TPartial>()));
        float[] lses = generator.Numbers(parts * batch * heads * queries, 4, AttentionElementType.Float32);
        for (int i = 0; i < lses.Length; i += 5) lses[i] = float.NegativeInfinity;
        float[] sinks = withSinks ? generator.Numbers(heads, 3, AttentionElementType.Float32) : [];
        TOutput[] expected = new TOutput[batch * queries * heads * dim], actual = new TOutput[expected.Length];
        float[] expectedLse = new float[batch * heads * queries], actualLse = new float[expectedLse.Length];

        // Heads before queries in memory.
        nint[] lengths = [parts, batch, queries, heads, dim], strides = [batch * queries * heads * dim, queries * heads * dim, dim, queries * dim, 1];
        Attention.Merge(
            new ReadOnlyTensorSpan<TPartial>(partials, lengths, [.. strides.Select((stride, i) => lengths[i] == 1 ? 0 : stride)]), new ReadOnlyTensorSpan<float>(lses, [parts, batch, heads, queries]),
            new TensorSpan<TOutput>(expected, [batch, queries, heads, dim]), new TensorSpan<float>(expectedLse, [batch, heads, queries]), sinks);
        using CudaTensor<TPartial> memory = device.Allocate<TPartial>(partials.Length);
        using CudaTensor<float> weights = device.Allocate<float>(parts, batch, heads, queries), lse = device.Allocate<float>(batch, heads, queries);
        using CudaTensor<TOutput> output = device.Allocate<TOutput>(batch, queries, heads, dim);
        memory.CopyFrom(partials);
        weights.CopyFrom(lses);
        CudaAttention.Merge(memory.View(0, lengths, strides), weights, output, lse, sinks);
        output.CopyTo(actual);
        lse.CopyTo(actualLse);
        string what = $"{typeof(TPartial).Name} to {typeof(TOutput).Name}, {parts} parts [{batch}, {queries}, {heads}, {dim}]{(withSinks ? ", sinks" : "")}";
        for (int i = 0; i < expected.Length; i++)
        {
            float x = Elements.ToSingle(expected[i]), y = Elements.ToSingle(actual[i]);
            Assert.True(Math.Abs(x - y) <= tolerance * (1 + Math.Abs(x)), $"query {i / dim / heads % queries}, head {i / dim % heads}, dim {i % dim}: {y:R}, not {x:R}; {what}");
        }

        for (int i = 0; i < expectedLse.Length; i++)
            Assert.True(expectedLse[i].Equals(actualLse[i]) || Math.Abs(expectedLse[i] - actualLse[i]) <= 2e-6 * (1 + Math.Abs(expectedLse[i])), $"log-sum-exp {i}: {actualLse[i]:R}, not {expectedLse[i]:R}; {what}");
    }
}
