using System.Numerics.Tensors;
using FusedAttention.Devices;
using FusedAttention.Metal.Emulation;
using FusedAttention.Metal.Launching;
using FusedAttention.Metal.Planning;
using FusedAttention.Problems;
using FusedAttention.Tensors;
using Xunit;

namespace FusedAttention.Metal.Tests;

/// <summary>The merge kernel against the CPU's.</summary>
public sealed unsafe class MetalMergeTests
{
    [Theory]
    [InlineData(1, 1, 1, 1, 1)]
    [InlineData(2, 1, 3, 2, 64)]
    [InlineData(3, 2, 5, 4, 7)]
    [InlineData(7, 1, 2, 3, 513)]
    [InlineData(64, 2, 1, 1, 128)]
    public void Parts_merge_as_on_the_CPU(int parts, int batch, int queries, int heads, int dim)
    {
        foreach (bool sinks in (bool[])[false, true])
        {
            Compare<float, float>(parts, batch, queries, heads, dim, sinks, 1e-6);
            Compare<Half, float>(parts, batch, queries, heads, dim, sinks, 1e-6);
            Compare<float, BFloat16>(parts, batch, queries, heads, dim, sinks, 1.0 / 128);
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
        foreach (float bad in (float[])[float.NaN, float.PositiveInfinity])
        {
            (float[] o, float lse) = Merge([[1, 2], [3, 4]], [bad, 0]);
            Assert.True(float.IsNaN(o[0]) && float.IsNaN(o[1]) && float.IsNaN(lse));
        }
    }

    /// <summary>As on the CPU: exactly computed it is small, not zero. Finite elements of such a part add nothing.</summary>
    [Theory]
    [InlineData(new[] { 0f, -1000f })]
    [InlineData(new[] { -1000f, 0f })]
    [InlineData(new[] { 3e30f, -3e30f })]
    [InlineData(new[] { 0f, -1f })]
    public void An_infinite_element_stays_so_though_its_parts_weight_vanishes(float[] logSumExps)
    {
        const float Infinity = float.PositiveInfinity;
        int heavy = logSumExps[0] > logSumExps[1] ? 0 : 1;
        float[] part = [1, 2, -3, 4], light = [Infinity, -Infinity, float.NaN, 4];
        (float[] o, _) = Merge(heavy == 0 ? [part, light] : [light, part], logSumExps);
        Assert.Equal([Infinity, -Infinity, float.NaN], o[..3]);
        if (logSumExps[1 - heavy] < -100) Assert.Equal(4, o[3]);
        else Assert.Equal(4, o[3], 1e-6);

        // One of each sign is the sum of an infinity and its opposite.
        (o, _) = Merge(heavy == 0 ? [[-Infinity, 2], [Infinity, 2]] : [[Infinity, 2], [-Infinity, 2]], logSumExps);
        Assert.True(float.IsNaN(o[0]) && Math.Abs(o[1] - 2) < 1e-6, $"{o[0]}, {o[1]}");
        AssertMerged([Infinity, 0], 1000, Merge([[Infinity, 7]], [0], sink: 1000));
    }

    [Fact]
    public void One_part_comes_out_with_its_bits()
    {
        float[] part = [-0f, 1e-30f, float.MaxValue, 1f / 3];
        (float[] o, float lse) = Merge([part], [-123.456f]);
        Assert.Equal(part, o);
        Assert.Equal(-123.456f, lse);
    }

    private static void AssertMerged(float[] expected, float expectedLse, (float[] Output, float LogSumExp) actual)
    {
        Assert.Equal(expected, actual.Output);
        Assert.Equal(expectedLse, actual.LogSumExp);
    }

    private static (float[] Output, float LogSumExp) Merge(float[][] parts, float[] lses, float? sink = null)
    {
        int dim = parts[0].Length;
        float[] all = [.. parts.SelectMany(part => part)], output = new float[dim], lse = new float[1];
        float[] sinks = sink is float s ? [s] : [];
        Run<float, float>(
            new(all, [parts.Length, 1, 1, dim]), new(lses, [parts.Length, 1, 1]), new(output, [1, 1, dim]), new(lse, [1, 1]), sinks);
        return (output, lse[0]);
    }

    private static void Compare<TPartial, TOutput>(int parts, int batch, int queries, int heads, int dim, bool withSinks, double tolerance)
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

        // Parts, and their statistics, with heads before queries in memory.
        nint[] partialStrides = [batch * queries * heads * dim, queries * heads * dim, dim, queries * dim, 1];
        var partialSpan = new ReadOnlyTensorSpan<TPartial>(partials, [parts, batch, queries, heads, dim], Strides([parts, batch, queries, heads, dim], partialStrides));
        var lseSpan = new ReadOnlyTensorSpan<float>(lses, [parts, batch, heads, queries]);
        Attention.Merge(partialSpan, lseSpan, new TensorSpan<TOutput>(expected, [batch, queries, heads, dim]), new TensorSpan<float>(expectedLse, [batch, heads, queries]), sinks);
        Run(partialSpan, lseSpan, new TensorSpan<TOutput>(actual, [batch, queries, heads, dim]), new TensorSpan<float>(actualLse, [batch, heads, queries]), sinks);
        for (int i = 0; i < expected.Length; i++)
        {
            float x = Elements.ToSingle(expected[i]), y = Elements.ToSingle(actual[i]);
            Assert.True(Math.Abs(x - y) <= tolerance * (1 + Math.Abs(x)), $"element {i}: {y}, not {x}");
        }

        for (int i = 0; i < expectedLse.Length; i++)
        {
            Assert.True(expectedLse[i].Equals(actualLse[i]) || Math.Abs(expectedLse[i] - actualLse[i]) <= 2e-6 * (1 + Math.Abs(expectedLse[i])), $"log-sum-exp {i}: {actualLse[i]}, not {expectedLse[i]}");
        }
    }

    private static nint[] Strides(nint[] lengths, nint[] strides) => [.. strides.Select((stride, i) => lengths[i] == 1 ? 0 : stride)];

    private static void Run<TPartial, TOutput>(
        in ReadOnlyTensorSpan<TPartial> partials, in ReadOnlyTensorSpan<float> lses, in TensorSpan<TOutput> output, in TensorSpan<float> lse, float[] sinks)
        where TPartial : unmanaged
        where TOutput : unmanaged
    {
        using EmulatedRuntime runtime = MetalProblems.Start();
        MergeShape shape = MergeShape.Of(TensorLayout.Of(partials), TensorLayout.Of(lses), TensorLayout.Of(output), TensorLayout.Of(lse), sinks);
        fixed (TPartial* p = partials)
        fixed (float* l = lses, e = lse, s = sinks)
        fixed (TOutput* o = output)
        {
            var memory = new MergeMemory(
                Place(p, TensorLayout.Of(partials).Extent, sizeof(TPartial)), Place(l, TensorLayout.Of(lses).Extent, sizeof(float)), Place(o, TensorLayout.Of(output).Extent, sizeof(TOutput)),
                Place(e, TensorLayout.Of(lse).Extent, sizeof(float)), sinks.Length == 0 ? null : Place(s, sinks.Length, sizeof(float)));
            LaunchList launches = MergePlan.NewLaunches();
            MergePlan.Bind(shape, Elements.TypeOf<TPartial>(), Elements.TypeOf<TOutput>(), memory, launches);
            runtime.Submit(launches[0]);
        }

        MemoryPlace Place(void* pointer, long elements, int size) => new(runtime.Wrap((nint)pointer, elements * size), 0);
    }
}
