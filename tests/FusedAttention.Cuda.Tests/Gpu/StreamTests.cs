using FusedAttention.Cuda.Tests.Driver;
using Xunit;

namespace FusedAttention.Cuda.Tests.Gpu;

/// <summary>Streams of this library's and of the caller's, graphs, and tensors that are disposed while calls are pending: the same bits as one call after the other.</summary>
public abstract class StreamTests
{
    private protected StreamTests(TestDevice device) => Problems = new(device);

    private GpuProblems Problems { get; }

    private const int Heads = 8;
    private const int KeyValueHeads = 2;
    private const int Dim = 64;

    private static readonly AttentionOptions Options = new() { Mask = AttentionMask.Causal };

    /// <summary>Each call's output is the next one's query; a third of them are decodes in splits.</summary>
    [Theory]
    [InlineData(600, 600)]
    [InlineData(1, 7000)]
    public void Chains_over_two_streams_have_the_bits_of_one(int queries, int keys)
    {
        CudaDevice device = Problems.Open();
        (queries, keys) = (queries == 1 ? 1 : Problems.Target.Tokens(queries), Problems.Target.Tokens(keys));
        using CudaStream a = device.CreateStream(), b = device.CreateStream();
        Half[] expected = Chain(device, queries, keys, null, null), actual = Chain(device, queries, keys, a, b);
        for (int i = 1; i < Problems.Target.Times(6); i++) AssertSame(expected, Chain(device, queries, keys, a, b), $"run {i}");
        AssertSame(expected, actual, "two streams");
    }

    [Theory]
    [InlineData(300, 300)]
    [InlineData(1, 5000)]
    public void Streams_of_the_callers_have_the_bits_of_the_librarys(int queries, int keys)
    {
        CudaDevice device = Problems.Open();
        (queries, keys) = (queries == 1 ? 1 : Problems.Target.Tokens(queries), Problems.Target.Tokens(keys));
        Half[] expected = Chain(device, queries, keys, null, null);
        using ICallersDriver own = Problems.Target.OpenDriver();
        own.Use(device, _ =>
        {
            nint handle = own.CreateStream();
            using (CudaStream stream = device.WrapStream(handle), legacy = device.WrapStream(0))
            {
                AssertSame(expected, Chain(device, queries, keys, stream, stream), "a stream of the caller's");
                AssertSame(expected, Chain(device, queries, keys, legacy, stream), "the legacy stream and another");
            }

            own.DestroyStream(handle);
        });
    }

    /// <summary>Counters of splits are at zero for every run of the graph, and tables are the graph's own.</summary>
    [Theory]
    [InlineData(300, 300)]
    [InlineData(1, 9000)]
    public void A_graph_has_the_bits_of_its_calls_whenever_it_runs(int queries, int keys)
    {
        CudaDevice device = Problems.Open();
        (queries, keys) = (queries == 1 ? 1 : Problems.Target.Tokens(queries), Problems.Target.Tokens(keys));
        using CudaTensor<Half> q = Noise(device, 1, queries, Heads, Dim), k = Noise(device, 2, keys, KeyValueHeads, Dim), v = Noise(device, 3, keys, KeyValueHeads, Dim), o = device.Allocate<Half>(queries, Heads, Dim);
        Half[] expected = new Half[queries * Heads * Dim], actual = new Half[expected.Length];
        CudaAttention.Forward(q, k, v, o, Options);
        o.CopyTo(expected);
        device.Synchronize();
        using ICallersDriver own = Problems.Target.OpenDriver();
        own.Use(device, _ =>
        {
            nint handle = own.CreateStream();
            using (CudaStream stream = device.WrapStream(handle))
            {
                own.BeginCapture(handle);
                CudaAttention.Forward(q, k, v, o, Options, stream: stream);
                nint graph = own.EndCapture(handle);
                for (int i = 0; i < Problems.Target.Times(5); i++)
                {
                    o.CopyFrom(new Half[expected.Length]);
                    device.Synchronize();
                    own.LaunchGraph(graph, handle);
                    CudaAttention.Forward(q, k, v, o, Options, stream: stream);
                    own.LaunchGraph(graph, handle);
                    stream.Synchronize();
                    o.CopyTo(actual);
                    AssertSame(expected, actual, $"run {i}");
                }

                own.DestroyGraph(graph);
            }

            own.DestroyStream(handle);
        });
    }

    /// <summary>Memory that is given back while calls read it must not be another tensor's before they are done.</summary>
    [Fact]
    public void Disposing_what_calls_under_way_use_changes_nothing()
    {
        CudaDevice device = Problems.Open();
        int queries = Problems.Target.Tokens(1500);
        using CudaStream stream = device.CreateStream();
        Half[] expected = Chain(device, queries, queries, null, null, length: 1), actual = new Half[expected.Length];
        for (int i = 0; i < Problems.Target.Times(20); i++)
        {
            CudaTensor<Half> q = Noise(device, 1, queries, Heads, Dim), k = Noise(device, 2, queries, KeyValueHeads, Dim), v = Noise(device, 3, queries, KeyValueHeads, Dim);
            using CudaTensor<Half> o = device.Allocate<Half>(queries, Heads, Dim);
            for (int n = 0; n < Problems.Target.Times(10); n++) CudaAttention.Forward(q, k, v, o, Options, stream: stream);
            q.Dispose();
            k.Dispose();
            v.Dispose();
            using CudaTensor<Half> other = device.Allocate<Half>(queries, Heads, Dim), another = device.Allocate<Half>(queries, KeyValueHeads, Dim);
            other.CopyFrom([.. Enumerable.Repeat(Half.NaN, queries * Heads * Dim)]);
            another.CopyFrom([.. Enumerable.Repeat(Half.NaN, queries * KeyValueHeads * Dim)]);
            Assert.Throws<ObjectDisposedException>(() => CudaAttention.Forward(q, k, v, o, Options, stream: stream));
            o.CopyTo(actual);
            AssertSame(expected, actual, $"run {i}");
        }
    }

    [Fact]
    public void A_stream_may_be_disposed_with_calls_under_way()
    {
        CudaDevice device = Problems.Open();
        int tokens = Problems.Target.Tokens(500);
        Half[] expected = Chain(device, tokens, tokens, null, null);
        for (int i = 0; i < Problems.Target.Times(10); i++)
        {
            CudaStream a = device.CreateStream(), b = device.CreateStream();
            AssertSame(expected, Chain(device, tokens, tokens, a, b, disposesStreams: true), $"run {i}");
        }
    }

    private static Half[] Chain(CudaDevice device, int queries, int keys, CudaStream? a, CudaStream? b, int length = 12, bool disposesStreams = false)
    {
        using CudaTensor<Half> x = Noise(device, 1, queries, Heads, Dim), y = device.Allocate<Half>(queries, Heads, Dim);
        using CudaTensor<Half> k = Noise(device, 2, keys, KeyValueHeads, Dim), v = Noise(device, 3, keys, KeyValueHeads, Dim);
        for (int i = 0; i < length; i++) CudaAttention.Forward(i % 2 == 0 ? x : y, k, v, i % 2 == 0 ? y : x, Options, stream: i % 3 == 0 ? a : b);
        if (disposesStreams)
        {
            a?.Dispose();
            b?.Dispose();
        }

        Half[] result = new Half[queries * Heads * Dim];
        (length % 2 == 0 ? x : y).CopyTo(result);
        return result;
    }

    private static CudaTensor<Half> Noise(CudaDevice device, int seed, int tokens, int heads, int dim)
    {
        CudaTensor<Half> tensor = device.Allocate<Half>(tokens, heads, dim);
        tensor.CopyFrom([.. new ProblemGenerator(seed).Numbers(tokens * heads * dim, 1, AttentionElementType.Float16).Select(static x => (Half)x)]);
        return tensor;
    }

    private static void AssertSame(Half[] expected, Half[] actual, string what)
    {
        Assert.Contains(expected, static x => x != Half.Zero);
        for (int i = 0; i < expected.Length; i++)
            Assert.True(BitConverter.HalfToUInt16Bits(expected[i]) == BitConverter.HalfToUInt16Bits(actual[i]), $"{what}: query {i / Dim / Heads}, head {i / Dim % Heads}, dim {i % Dim} is {actual[i]}, not {expected[i]}");
    }
}
