using System.Numerics.Tensors;
using System.Runtime.InteropServices;
using FusedAttention.Metal.Emulation;
using FusedAttention.Metal.Launching;
using FusedAttention.Serving;
using Xunit;

namespace FusedAttention.Metal.Tests;

/// <summary>Caches of 8 bits: what the device's kernel quantizes has the processor's bits, and scales go where codes go: with forks, copies, streams and calls.</summary>
public sealed class MetalEightBitCacheTests : IDisposable
{
    private const int Heads = 2;

    private readonly EmulatedRuntime _runtime = MetalProblems.Start();
    private readonly MetalDevice _device;

    public MetalEightBitCacheTests() => _device = new(_runtime);

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

    /// <summary>Each is a library to compile, so a run in CI takes every sixth.</summary>
    public static TheoryData<AttentionElementType, bool, string, string> Mistakes
    {
        get
        {
            var mistakes = new TheoryData<AttentionElementType, bool, string, string>();
            for (int i = 0; i < InQuantizing.Length; i += MetalProblems.IsWhole ? 1 : 6) mistakes.Add(InQuantizing[i].Codes, InQuantizing[i].IsFlushed, InQuantizing[i].Correct, InQuantizing[i].Wrong);
            return mistakes;
        }
    }

    private static (AttentionElementType Codes, bool IsFlushed, string Correct, string Wrong)[] InQuantizing { get; } =
    [
        (AttentionElementType.Int8, true, "if (magnitude >= least_normal)", "if (magnitude > 0u)"),
        (AttentionElementType.Float8E4M3, true, "precise::divide(number.fraction, scale.fraction)", "precise::divide(as_type<float>(magnitude), scale.fraction)"),
        (AttentionElementType.Float8E4M3, true, "(quotient & 1u) != 0u", "true"),
        (AttentionElementType.Int8, false, "int(rint(min(", "int(trunc(min("),
        (AttentionElementType.Int8, true, "taken_apart(scale)), 127.0f", "taken_apart(scale)), 190.0f"),
        (AttentionElementType.Int8, false, "scale_of(simd_max(largest))", "scale_of(largest)"),
        (AttentionElementType.Float8E4M3, false, "0x0007FFFFu + ((exact >> 20) & 1u)", "0x00080000u"),
        (AttentionElementType.Float8E4M3, false, "return e4m3_bits(sign | code);", "return e4m3_bits(code);"),
        (AttentionElementType.Float8E4M3, true, "return scale == 0u ? 0x3F800000u : scale;", "return scale;"),
        (AttentionElementType.Float8E4M3, false, "uint(rint(quotient * 512.0f))", "uint(quotient * 512.0f + 0.5f)"),
    ];

    /// <summary>Rows of 33 numbers below 2^-126, of more and more bits; every 18th is led by one of which the scale is a tie, 0, or so small that quotients pass the largest code.</summary>
    private static float[] Subnormals { get; } =
        [.. Enumerable.Range(0, 33 * 64).Select(static i => BitConverter.Int32BitsToSingle(i % (33 * 18) == 0 ? ((int[])[190, 1120, 224, 672])[i / (33 * 18)] : (i * 7919 % (1 << (6 + (i / 33 % 18)))) | (i % 3 == 0 ? int.MinValue : 0)))];

    public void Dispose() => _runtime.Dispose();

    [Slow]
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

    /// <summary>Subnormal numbers are what they are on a device that takes them for 0 in its arithmetic too. (This flavour divides by a constant with its reciprocal, so scales of other rows have other last bits.)</summary>
    [Slow]
    [Theory]
    [InlineData(AttentionElementType.Int8)]
    [InlineData(AttentionElementType.Float8E4M3)]
    public void Subnormal_numbers_are_quantized_without_arithmetic_that_has_them(AttentionElementType codes)
    {
        if (codes == AttentionElementType.Int8) Assert.SkipUnless(MetalProblems.IsWhole, "A library of its own: set FUSEDATTENTION_EMULATED_ALL=1.");
        using EmulatedRuntime runtime = MetalProblems.Start(EmulatorFlavour.FastMath, "forward");
        var device = new MetalDevice(runtime);
        if (codes == AttentionElementType.Int8) Quantize<float, sbyte>(device, Subnormals, 33, "subnormal");
        else Quantize<float, Float8E4M3>(device, Subnormals, 33, "subnormal");
    }

    /// <summary>Tests of the test: the kernel with a seeded mistake each, on subnormal numbers where they are flushed, or on rows that one number of them leads.</summary>
    [Slow]
    [Theory]
    [MemberData(nameof(Mistakes))]
    public void A_mistake_in_quantizing_is_noticed(AttentionElementType codes, bool isFlushed, string correct, string wrong)
    {
        using EmulatedRuntime runtime = new(isFlushed ? EmulatorFlavour.FastMath : EmulatorFlavour.Plain)
        {
            Orders = ["forward"],
            Source = function =>
            {
                string text = KernelSource.Compose(function);
                return text.Contains(correct, StringComparison.Ordinal) ? text.Replace(correct, wrong, StringComparison.Ordinal) : throw new InvalidOperationException($"The text has no \"{correct}\".");
            },
        };
        var device = new MetalDevice(runtime);
        (float[] rows, int dim) = isFlushed ? (Subnormals, 33) : QuantizationCases.Of<float>().Where(static rows => rows.What is "led").Select(static rows => (rows.Rows, rows.Dim)).Single();
        Assert.ThrowsAny<Xunit.Sdk.XunitException>(() =>
        {
            if (codes == AttentionElementType.Int8) Quantize<float, sbyte>(device, rows, dim, "mistake");
            else Quantize<float, Float8E4M3>(device, rows, dim, "mistake");
        });
    }

    /// <summary>Of a row that is not finite codes are unspecified, but not what the others of the token have. Heads outside of tokens, and gaps between them.</summary>
    [Fact]
    public void Strided_rows_beside_one_that_is_not_finite_are_quantized()
    {
        const int Tokens = 3, Dim = 33;
        float[] rows = QuantizationCases.Noise(2, Tokens * Heads * Dim), apart = QuantizationCases.Noise(3, Tokens * Heads * (Dim + 2)), damaged = [.. rows];
        for (int i = 0; i < rows.Length; i++) apart[(((i / Dim % Heads * Tokens) + (i / Dim / Heads)) * (Dim + 2)) + (i % Dim)] = rows[i];
        (damaged[3], damaged[7]) = (float.NaN, float.PositiveInfinity);
        using var cache = new MetalPagedKeyValueCache<Float8E4M3>(_device, Options(Dim));
        using var expected = new PagedKeyValueCache<Float8E4M3>(Options(Dim));
        CacheSequence gpu = cache.CreateSequence(), cpu = expected.CreateSequence();
        using MetalTensor<float> packed = Tensor(damaged, Tokens, Dim), memory = _device.Allocate<float>(apart.Length);
        memory.CopyFrom(apart);
        cache.Append(gpu, memory.View(0, [Tokens, Heads, Dim], [Dim + 2, Tokens * (Dim + 2), 1]), packed);
        expected.Append<float>(cpu, rows, rows);
        byte[][] right = CacheContents.Of(expected, cpu, 0), actual = ContentsOf(cache, gpu, 0);
        foreach ((int plane, int bytes) in ((int, int)[])[(2, Dim), (3, sizeof(float))]) right[plane].AsSpan(0, bytes).CopyTo(actual[plane]);
        CacheContents.AssertSame(right, actual, "strided");
    }

    /// <summary>Rows of tensors and of spans, forks with their copies by either side, what is taken back, streams to the host and from it, and the scheduler.</summary>
    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void Scales_go_where_codes_go(bool isBatched)
    {
        const int Dim = 48;
        using var cache = new MetalPagedKeyValueCache<sbyte>(_device, Options(Dim) with { Layers = 2 });
        using var elsewhere = new MetalPagedKeyValueCache<sbyte>(_device, Options(Dim) with { Layers = 2, BlockSize = 3 });
        using var host = new PagedKeyValueCache<sbyte>(Options(Dim) with { Layers = 2 });
        Assert.Equal([40, 4, Heads], cache.GetKeyScales(1)!.Lengths.ToArray());
        CacheSequence a = cache.CreateSequence(), expected = host.CreateSequence(), b, other;
        cache.Extend(a, 6);
        host.Extend(expected, 6);
        cache.Write(1, a, 0, QuantizationCases.Noise(6, 6 * Heads * Dim), QuantizationCases.Noise(7, 6 * Heads * Dim));
        host.Write(1, expected, 0, QuantizationCases.Noise(6, 6 * Heads * Dim), QuantizationCases.Noise(7, 6 * Heads * Dim));
        host.Write(0, expected, 0, QuantizationCases.Noise(4, 6 * Heads * Dim), QuantizationCases.Noise(5, 6 * Heads * Dim));

        // What has been batched is pending: then the GPU copies the half of a block that a fork shares, in all planes, and the processor otherwise.
        using (isBatched ? _device.Batch() : default)
        {
            cache.Write(0, a, 0, Tensor(QuantizationCases.Noise(4, 6 * Heads * Dim), 6, Dim), Tensor(QuantizationCases.Noise(5, 6 * Heads * Dim), 6, Dim));
            Assert.Equal(isBatched, cache.GetKeyScales(0)!.IsPending);
            (b, other) = (cache.Fork(a), host.Fork(expected));
            cache.Extend(b, 3);
            host.Extend(other, 3);
        }

        for (int layer = 0; layer < 2; layer++)
        {
            cache.Write(layer, b, 6, Tensor(QuantizationCases.Noise(8 + layer, 3 * Heads * Dim), 3, Dim), Tensor(QuantizationCases.Noise(9, 3 * Heads * Dim), 3, Dim));
            host.Write(layer, other, 6, QuantizationCases.Noise(8 + layer, 3 * Heads * Dim), QuantizationCases.Noise(9, 3 * Heads * Dim));
        }

        AssertSame(expected, a, cache);
        AssertSame(other, b, cache);
        cache.Truncate(b, 7);
        host.Truncate(other, 7);
        byte[] saved = CacheContents.Saved(host, other);
        Assert.Equal(saved, CacheContents.Saved(cache, b));
        AssertSame(other, elsewhere.Load(new MemoryStream(saved)), elsewhere);
        CacheContents.AssertSame(CacheContents.Of(host, other, 1), CacheContents.Of(host, host.Load(new MemoryStream(CacheContents.Saved(cache, b))), 1), "to the host");

        using BatchScheduler scheduler = BatchScheduler.Create(cache);
        GenerationRequest request = scheduler.Add([1, 2, 3], 1);
        Assert.Equal(3, scheduler.Next().Tokens.Length);
        scheduler.Complete([7]);
        Assert.Equal(GenerationState.Finished, request.State);

        void AssertSame(CacheSequence onHost, CacheSequence onDevice, MetalPagedKeyValueCache<sbyte> device)
        {
            for (int layer = 0; layer < 2; layer++) CacheContents.AssertSame(CacheContents.Of(host, onHost, layer), ContentsOf(device, onDevice, layer), $"layer {layer}");
        }
    }

    /// <summary>Decoding and prefilling, and as a call over the cache's tensors.</summary>
    [Theory]
    [InlineData(1)]
    [InlineData(40)]
    public void Attention_over_the_cache_is_that_of_the_processor(int queries)
    {
        Attend<BFloat16, Float8E4M3>(queries, 1e-2f);
        if (MetalProblems.IsWhole) Attend<float, sbyte>(queries, 1e-5f);
    }

    [Fact]
    public void Only_a_cache_of_8_bits_has_scales()
    {
        using var floats = new MetalPagedKeyValueCache<float>(_device, Options(4));
        Assert.Null(floats.GetKeyScales());
        Assert.Null(floats.GetValueScales());
        var cache = new MetalPagedKeyValueCache<Float8E4M3>(_device, Options(64));
        CacheSequence a = cache.CreateSequence();
        cache.Extend(a, 2);
        PagedBatch batch = cache.CreateBatch();
        batch.Add(a, 2);
        using MetalTensor<float> query = _device.Allocate<float>(2, Heads, 64), one = _device.Allocate<float>(1), output = _device.Allocate<float>(2, Heads, 64);
        foreach (bool isKey in (bool[])[true, false])
        {
            Assert.Contains(
                "cache's own",
                Assert.Throws<ArgumentException>("operands", () => MetalAttention.ForwardPaged(query, output, cache, 0, batch, operands: isKey ? new() { KeyScale = one } : new() { ValueScale = one })).Message, StringComparison.Ordinal);
        }

        using MetalTensor<sbyte> codes = _device.Allocate<sbyte>(2, Heads, 64);
        Assert.Contains("8-bit", Assert.Throws<ArgumentException>("keys", () => cache.Write(0, a, 0, codes, codes)).Message, StringComparison.Ordinal);
        using var ones = new MetalPagedKeyValueCache<sbyte>(_device, Options(1));
        MetalTensor<float> scales = ones.GetValueScales()!.Reshape(160, Heads, 1).Slice(..2, .., ..);
        Assert.Contains("part of the cache", Assert.Throws<ArgumentException>("keys", () => ones.Append(ones.CreateSequence(), scales, scales)).Message, StringComparison.Ordinal);
        Assert.Contains(
            "holds float, Half, BFloat16, sbyte or Float8E4M3, not FusedAttention.Q8Block",
            Assert.Throws<NotSupportedException>(() => new MetalPagedKeyValueCache<Q8Block>(_device, Options(32))).Message, StringComparison.Ordinal);
        cache.Dispose();
        Assert.Throws<ObjectDisposedException>(() => cache.GetKeyScales());
        Assert.Throws<ArgumentOutOfRangeException>(() => floats.GetValueScales(1));
    }

    private static PagedKeyValueCacheOptions Options(int dim) => new() { Blocks = 40, BlockSize = 4, KeyValueHeads = Heads, KeyDim = dim };

    internal static byte[][] ContentsOf<T>(MetalPagedKeyValueCache<T> cache, CacheSequence sequence, int layer)
        where T : unmanaged
        => CacheContents.Of(cache, sequence, [Pool(cache.GetKeys(layer)), Pool(cache.GetKeyScales(layer)), Pool(cache.GetValues(layer)), Pool(cache.GetValueScales(layer))]);

    private static byte[] Pool<T>(MetalTensor<T>? tensor)
        where T : unmanaged
        => tensor is null ? [] : MemoryMarshal.AsBytes(tensor.AsReadOnlySpan()).ToArray();

    private void Quantize<TSource>(AttentionElementType codes)
        where TSource : unmanaged
    {
        foreach ((string what, TSource[] rows, int dim) in QuantizationCases.Of<TSource>())
        {
            if (codes == AttentionElementType.Int8) Quantize<TSource, sbyte>(_device, rows, dim, what);
            else Quantize<TSource, Float8E4M3>(_device, rows, dim, what);
        }
    }

    /// <summary>Keys are the rows in their order, values in the opposite one.</summary>
    private static void Quantize<TSource, T>(MetalDevice device, TSource[] numbers, int dim, string what)
        where TSource : unmanaged
        where T : unmanaged
    {
        const int MostHeads = 1000;
        int heads = Math.Min(MostHeads, numbers.Length / dim), tokens = numbers.Length / dim / heads;
        TSource[] keys = numbers[..(tokens * heads * dim)], values = [.. keys.Reverse()];
        var options = new PagedKeyValueCacheOptions { Blocks = tokens, BlockSize = 1, KeyValueHeads = heads, KeyDim = dim };
        using var cache = new MetalPagedKeyValueCache<T>(device, options);
        using var expected = new PagedKeyValueCache<T>(options);
        CacheSequence gpu = cache.CreateSequence(), cpu = expected.CreateSequence();
        using MetalTensor<TSource> k = device.Allocate<TSource>(tokens, heads, dim), v = device.Allocate<TSource>(tokens, heads, dim);
        k.CopyFrom(keys);
        v.CopyFrom(values);
        cache.Append(gpu, k, v);
        expected.Append<TSource>(cpu, keys, values);
        CacheContents.AssertSame(CacheContents.Of(expected, cpu, 0), ContentsOf(cache, gpu, 0), $"{typeof(TSource).Name} to {typeof(T).Name}, {what}, dim {dim}");
    }

    private void Attend<TQuery, T>(int queries, float tolerance)
        where TQuery : unmanaged
        where T : unmanaged
    {
        const int QueryHeads = 6, Tokens = 100, Dim = 64;
        using var cache = new MetalPagedKeyValueCache<T>(_device, Options(Dim));
        using var expected = new PagedKeyValueCache<T>(Options(Dim));
        float[] keys = QuantizationCases.Noise(7, Tokens * Heads * Dim, peak: 1), values = QuantizationCases.Noise(8, Tokens * Heads * Dim, peak: 1);
        CacheSequence gpu = cache.CreateSequence(), cpu = expected.CreateSequence();
        cache.Append(gpu, Tensor(keys, Tokens, Dim), Tensor(values, Tokens, Dim));
        expected.Append<float>(cpu, keys, values);
        PagedBatch batch = cache.CreateBatch(), hostBatch = expected.CreateBatch();
        batch.Add(gpu, queries);
        hostBatch.Add(cpu, queries);
        TQuery[] query = Elements.FromAll<TQuery>(QuantizationCases.Noise(9, queries * QueryHeads * Dim, peak: 1)), result = new TQuery[query.Length];
        using MetalTensor<TQuery> q = _device.Allocate<TQuery>(queries, QueryHeads, Dim), o = _device.Allocate<TQuery>(queries, QueryHeads, Dim), asTensors = _device.Allocate<TQuery>(queries, QueryHeads, Dim);
        q.CopyFrom(query);
        var options = new AttentionOptions { Mask = AttentionMask.Causal };
        MetalAttention.ForwardPaged(q, o, cache, 0, batch, options);
        Attention.ForwardPaged(new ReadOnlyTensorSpan<TQuery>(query, [queries, QueryHeads, Dim]), new TensorSpan<TQuery>(result, [queries, QueryHeads, Dim]), expected, 0, hostBatch, options);
        TQuery[] actual = o.AsReadOnlySpan().ToArray();
        Assert.Contains(result, static x => Math.Abs(Elements.ToSingle(x)) > 0.1f);
        for (int i = 0; i < result.Length; i++)
            Assert.True(Math.Abs(Elements.ToSingle(actual[i]) - Elements.ToSingle(result[i])) <= tolerance, $"{typeof(TQuery).Name} over {typeof(T).Name}: element {i} is {Elements.ToSingle(actual[i])}, not {Elements.ToSingle(result[i])}");

        MetalAttention.ForwardPaged(q, cache.GetKeys(), cache.GetValues(), asTensors, batch.Sequences, options, new MetalOperands { KeyScale = cache.GetKeyScales(), ValueScale = cache.GetValueScales() });
        Assert.Equal(actual, asTensors.AsReadOnlySpan().ToArray());
    }

    private MetalTensor<float> Tensor(float[] rows, int tokens, int dim)
    {
        MetalTensor<float> tensor = _device.Allocate<float>(tokens, Heads, dim);
        tensor.CopyFrom(rows);
        return tensor;
    }
}
