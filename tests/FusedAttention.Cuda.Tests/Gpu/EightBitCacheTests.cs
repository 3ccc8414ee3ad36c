using System.Numerics.Tensors;
using FusedAttention.Cuda.Tests.Driver;
using Xunit;

namespace FusedAttention.Cuda.Tests.Gpu;

/// <summary>Caches of 8 bits on the GPU: what its kernel quantizes has the processor's bits, and attention over them, streams and graphs take the scales along.</summary>
public abstract class EightBitCacheTests
{
    private const int Heads = 2;

    private protected EightBitCacheTests(TestDevice device) => Problems = new(device);

    private GpuProblems Problems { get; }

    public static TheoryData<AttentionElementType, AttentionElementType> Quantizations()
    {
        var pairs = new TheoryData<AttentionElementType, AttentionElementType>();
        foreach (AttentionElementType source in Elements.Wide)
        {
            pairs.Add(source, AttentionElementType.Int8);
            pairs.Add(source, AttentionElementType.Float8E4M3);
        }

        return pairs;
    }

    [Theory]
    [MemberData(nameof(Quantizations))]
    public void Rows_are_quantized_as_the_processor_does(AttentionElementType source, AttentionElementType codes)
    {
        switch (source)
        {
            case AttentionElementType.Float32: Quantize<float>(codes); break;
            case AttentionElementType.Float16: Quantize<Half>(codes); break;
            default: Quantize<BFloat16>(codes); break;
        }
    }

    /// <summary>Of a row that is not finite codes are unspecified, but not what the others of the token have.</summary>
    [Fact]
    public void Rows_beside_one_that_is_not_finite_are_as_without_it()
    {
        const int Dim = 40;
        CudaDevice device = Problems.Open();
        float[] rows = QuantizationCases.Noise(1, Heads * Dim), damaged = [.. rows];
        (damaged[3], damaged[7]) = (float.NaN, float.PositiveInfinity);
        byte[][] expected = Written(rows), actual = Written(damaged);
        foreach (int plane in (int[])[0, 2]) Assert.Equal(expected[plane][Dim..], actual[plane][Dim..]);
        foreach (int plane in (int[])[1, 3]) Assert.Equal(expected[plane][sizeof(float)..], actual[plane][sizeof(float)..]);

        byte[][] Written(float[] numbers)
        {
            using var cache = new CudaPagedKeyValueCache<Float8E4M3>(device, Options(Dim));
            CacheSequence sequence = cache.CreateSequence();
            using CudaTensor<float> tensor = Tensor(device, numbers, 1, Dim);
            cache.Append(sequence, tensor, tensor);
            return cache.ContentsOf(sequence, 0);
        }
    }

    /// <summary>Heads that lie outside of tokens, and gaps.</summary>
    [Fact]
    public void Strided_rows_are_quantized()
    {
        const int Tokens = 5, Dim = 33;
        CudaDevice device = Problems.Open();
        float[] rows = QuantizationCases.Noise(2, Tokens * Heads * Dim), apart = QuantizationCases.Noise(3, Tokens * Heads * (Dim + 2));
        for (int i = 0; i < rows.Length; i++) apart[(((i / Dim % Heads * Tokens) + (i / Dim / Heads)) * (Dim + 2)) + (i % Dim)] = rows[i];
        using var cache = new CudaPagedKeyValueCache<sbyte>(device, Options(Dim));
        using var expected = new PagedKeyValueCache<sbyte>(Options(Dim));
        CacheSequence gpu = cache.CreateSequence(), cpu = expected.CreateSequence();
        using CudaTensor<float> packed = Tensor(device, rows, Tokens, Dim), memory = device.Allocate<float>(apart.Length);
        memory.CopyFrom(apart);
        cache.Append(gpu, memory.View(0, [Tokens, Heads, Dim], [Dim + 2, Tokens * (Dim + 2), 1]), packed);
        expected.Append<float>(cpu, rows, rows);
        CacheContents.AssertSame(CacheContents.Of(expected, cpu, 0), cache.ContentsOf(gpu, 0), "strided");
    }

    /// <summary>The bytes of a stream are the processor's, and go into caches of either, of this type and of others.</summary>
    [Fact]
    public void Streams_are_those_of_the_processor()
    {
        Streams<sbyte>();
        Streams<Float8E4M3>();
    }

    /// <summary>Decoding and prefilling, under queries of each type, and as a call over the cache's tensors.</summary>
    [Theory]
    [InlineData(1, 64)]
    [InlineData(40, 64)]
    [InlineData(40, 40)]
    public void Attention_over_the_cache_is_that_of_the_processor(int queries, int dim)
    {
        Attend<float, sbyte>(queries, dim, 1e-5f);
        Attend<Half, sbyte>(queries, dim, 2e-3f);
        Attend<BFloat16, Float8E4M3>(queries, dim, 2e-2f);
        Attend<Half, Float8E4M3>(queries, dim, 2e-3f);
    }

    /// <summary>A step that is captured, with other rows each time it runs.</summary>
    [Fact]
    public void A_graph_writes_codes_and_scales_whenever_it_runs()
    {
        const int Dim = 64, Tokens = 3;
        CudaDevice device = Problems.Open();
        using var cache = new CudaPagedKeyValueCache<sbyte>(device, Options(Dim));
        using var expected = new PagedKeyValueCache<sbyte>(Options(Dim));
        CacheSequence gpu = cache.CreateSequence(), cpu = expected.CreateSequence();
        cache.Extend(gpu, Tokens);
        expected.Extend(cpu, Tokens);
        PagedBatch batch = cache.CreateBatch();
        batch.Add(gpu, Tokens);
        using CudaTensor<Half> q = device.Allocate<Half>(Tokens, Heads, Dim), o = device.Allocate<Half>(Tokens, Heads, Dim), rows = device.Allocate<Half>(Tokens, Heads, Dim);
        q.CopyFrom(Elements.FromAll<Half>(QuantizationCases.Noise(4, Tokens * Heads * Dim)));
        rows.CopyFrom(new Half[Tokens * Heads * Dim]);
        cache.Write(0, batch, rows, rows);
        CudaAttention.ForwardPaged(q, o, cache, 0, batch);
        device.Synchronize();
        using ICallersDriver own = Problems.Target.OpenDriver();
        own.Use(device, _ =>
        {
            nint handle = own.CreateStream();
            using (CudaStream stream = device.WrapStream(handle))
            {
                own.BeginCapture(handle);
                cache.Write(0, batch, rows, rows, stream);
                CudaAttention.ForwardPaged(q, o, cache, 0, batch, stream: stream);
                nint graph = own.EndCapture(handle);
                for (int i = 0; i < Problems.Target.Times(3); i++)
                {
                    Half[] numbers = Elements.FromAll<Half>(QuantizationCases.Noise(10 + i, Tokens * Heads * Dim)), once = new Half[numbers.Length], again = new Half[numbers.Length];
                    rows.CopyFrom(numbers);
                    device.Synchronize();
                    own.LaunchGraph(graph, handle);
                    stream.Synchronize();
                    o.CopyTo(once);
                    expected.Write<Half>(0, cpu, 0, numbers, numbers);
                    CacheContents.AssertSame(CacheContents.Of(expected, cpu, 0), cache.ContentsOf(gpu, 0), $"run {i}");
                    CudaAttention.ForwardPaged(q, o, cache, 0, batch, stream: stream);
                    o.CopyTo(again, stream);
                    Assert.Equal(again, once);
                }

                own.DestroyGraph(graph);
            }

            own.DestroyStream(handle);
        });
    }

    private static PagedKeyValueCacheOptions Options(int dim) => new() { Blocks = 40, BlockSize = 4, KeyValueHeads = Heads, KeyDim = dim };

    private void Quantize<TSource>(AttentionElementType codes)
        where TSource : unmanaged
    {
        CudaDevice device = Problems.Open();
        foreach ((string what, TSource[] rows, int dim) in QuantizationCases.Of<TSource>())
        {
            if (codes == AttentionElementType.Int8) Quantize<TSource, sbyte>(device, rows, dim, what);
            else Quantize<TSource, Float8E4M3>(device, rows, dim, what);
        }
    }

    /// <summary>Keys are the rows in their order, values in the opposite one.</summary>
    private static void Quantize<TSource, T>(CudaDevice device, TSource[] numbers, int dim, string what)
        where TSource : unmanaged
        where T : unmanaged
    {
        const int MostHeads = 1000;
        int heads = Math.Min(MostHeads, numbers.Length / dim), tokens = numbers.Length / dim / heads;
        TSource[] keys = numbers[..(tokens * heads * dim)], values = [.. keys.Reverse()];
        var options = new PagedKeyValueCacheOptions { Blocks = tokens, BlockSize = 1, KeyValueHeads = heads, KeyDim = dim };
        using var cache = new CudaPagedKeyValueCache<T>(device, options);
        using var expected = new PagedKeyValueCache<T>(options);
        CacheSequence gpu = cache.CreateSequence(), cpu = expected.CreateSequence();
        using CudaTensor<TSource> k = device.Allocate<TSource>(tokens, heads, dim), v = device.Allocate<TSource>(tokens, heads, dim);
        k.CopyFrom(keys);
        v.CopyFrom(values);
        cache.Append(gpu, k, v);
        expected.Append<TSource>(cpu, keys, values);
        CacheContents.AssertSame(CacheContents.Of(expected, cpu, 0), cache.ContentsOf(gpu, 0), $"{typeof(TSource).Name} to {typeof(T).Name}, {what}, dim {dim}");
    }

    private void Streams<T>()
        where T : unmanaged
    {
        const int Dim = 48, Tokens = 11;
        CudaDevice device = Problems.Open();
        using var cache = new CudaPagedKeyValueCache<T>(device, Options(Dim));
        using var elsewhere = new CudaPagedKeyValueCache<T>(device, Options(Dim) with { BlockSize = 3 });
        using var host = new PagedKeyValueCache<T>(Options(Dim));
        float[] keys = QuantizationCases.Noise(5, Tokens * Heads * Dim), values = QuantizationCases.Noise(6, Tokens * Heads * Dim);
        CacheSequence gpu = cache.CreateSequence(), cpu = host.CreateSequence();
        using CudaTensor<float> k = Tensor(device, keys, Tokens, Dim), v = Tensor(device, values, Tokens, Dim);
        cache.Append(gpu, k, v);
        host.Append<float>(cpu, keys, values);
        byte[] saved = CacheContents.Saved(host, cpu);
        Assert.Equal(saved, CacheContents.Saved(cache, gpu));
        byte[][] expected = CacheContents.Of(host, cpu, 0);
        CacheContents.AssertSame(expected, elsewhere.ContentsOf(elsewhere.Load(new MemoryStream(saved)), 0), "loaded");
        CacheContents.AssertSame(expected, CacheContents.Of(host, host.Load(new MemoryStream(CacheContents.Saved(cache, gpu))), 0), "to the host");

        // From floats, as Write does it, and to halves, the numbers that codes stand for.
        using var floats = new PagedKeyValueCache<float>(Options(Dim));
        CacheSequence wide = floats.CreateSequence();
        floats.Append(wide, keys, values);
        CacheContents.AssertSame(expected, cache.ContentsOf(cache.Load(new MemoryStream(CacheContents.Saved(floats, wide))), 0), "from floats");
        using var halves = new CudaPagedKeyValueCache<Half>(device, Options(Dim));
        using var hostHalves = new PagedKeyValueCache<Half>(Options(Dim));
        CacheContents.AssertSame(
            CacheContents.Of(hostHalves, hostHalves.Load(new MemoryStream(saved)), 0), halves.ContentsOf(halves.Load(new MemoryStream(CacheContents.Saved(cache, gpu))), 0), "to halves");
    }

    private void Attend<TQuery, T>(int queries, int dim, float tolerance)
        where TQuery : unmanaged
        where T : unmanaged
    {
        const int QueryHeads = 6, Tokens = 100;
        CudaDevice device = Problems.Open();
        using var cache = new CudaPagedKeyValueCache<T>(device, Options(dim));
        using var expected = new PagedKeyValueCache<T>(Options(dim));
        float[] keys = QuantizationCases.Noise(7, Tokens * Heads * dim, peak: 1), values = QuantizationCases.Noise(8, Tokens * Heads * dim, peak: 1);
        CacheSequence gpu = cache.CreateSequence(), cpu = expected.CreateSequence();
        using CudaTensor<float> k = Tensor(device, keys, Tokens, dim), v = Tensor(device, values, Tokens, dim);
        cache.Append(gpu, k, v);
        expected.Append<float>(cpu, keys, values);
        PagedBatch batch = cache.CreateBatch(), hostBatch = expected.CreateBatch();
        batch.Add(gpu, queries);
        hostBatch.Add(cpu, queries);
        TQuery[] query = Elements.FromAll<TQuery>(QuantizationCases.Noise(9, queries * QueryHeads * dim, peak: 1)), actual = new TQuery[query.Length], asTensors = new TQuery[query.Length], result = new TQuery[query.Length];
        using CudaTensor<TQuery> q = device.Allocate<TQuery>(queries, QueryHeads, dim), o = device.Allocate<TQuery>(queries, QueryHeads, dim);
        q.CopyFrom(query);
        var options = new AttentionOptions { Mask = AttentionMask.Causal };
        CudaAttention.ForwardPaged(q, o, cache, 0, batch, options);
        o.CopyTo(actual);
        Attention.ForwardPaged(new ReadOnlyTensorSpan<TQuery>(query, [queries, QueryHeads, dim]), new TensorSpan<TQuery>(result, [queries, QueryHeads, dim]), expected, 0, hostBatch, options);
        string what = $"{typeof(TQuery).Name} over {typeof(T).Name}";
        Assert.Contains(result, static x => Math.Abs(Elements.ToSingle(x)) > 0.1f);
        for (int i = 0; i < result.Length; i++)
            Assert.True(Math.Abs(Elements.ToSingle(actual[i]) - Elements.ToSingle(result[i])) <= tolerance, $"{what}: element {i} is {Elements.ToSingle(actual[i])}, not {Elements.ToSingle(result[i])}");

        CudaAttention.ForwardPaged(q, cache.GetKeys(), cache.GetValues(), o, batch.Sequences, options, new CudaOperands { KeyScale = cache.GetKeyScales(), ValueScale = cache.GetValueScales() });
        o.CopyTo(asTensors);
        Assert.Equal(actual, asTensors);
    }

    private static CudaTensor<float> Tensor(CudaDevice device, float[] rows, int tokens, int dim)
    {
        CudaTensor<float> tensor = device.Allocate<float>(tokens, Heads, dim);
        tensor.CopyFrom(rows);
        return tensor;
    }
}
