using System.Runtime.InteropServices;
using FusedAttention.Cuda.Kernels;
using FusedAttention.Cuda.Planning;
using FusedAttention.Cuda.Tests.Fakes;
using FusedAttention.Cuda.Tests.Gpu;
using Xunit;

namespace FusedAttention.Cuda.Tests;

/// <summary>Caches of 8 bits on a device that records: their scales, which lie beside the codes, are written, copied, waited for and handed to calls like them.</summary>
public sealed class CudaEightBitCacheTests : RecordedCacheTests
{
    /// <summary>Codes and scales of 8 bits: one launch a write, a copy a plane, and what a call over the cache waits for.</summary>
    [Fact]
    public void Caches_of_8_bits_keep_scales_beside_their_codes()
    {
        using var cache = new CudaPagedKeyValueCache<sbyte>(Device, Options(layers: 2));
        using var host = new PagedKeyValueCache<sbyte>(Options(layers: 2));
        using CudaStream stream = Device.CreateStream();
        Assert.Equal([8, 4, Heads], cache.GetKeyScales(1)!.Lengths.ToArray());
        Assert.Equal([8, 4, Heads], cache.GetValueScales()!.Lengths.ToArray());
        Assert.Throws<ArgumentOutOfRangeException>(() => cache.GetKeyScales(2));
        using var floats = new CudaPagedKeyValueCache<float>(Device, Options());
        Assert.Null(floats.GetKeyScales());
        Assert.Null(floats.GetValueScales());

        CacheSequence a = cache.CreateSequence(), expected = host.CreateSequence();
        cache.Extend(a, 6);
        host.Extend(expected, 6);
        cache.Write(0, a, 0, Tensor(6, KeyDim, 0), Tensor(6, ValueDim, 1000), stream);
        cache.Write(1, a, 0, Rows(6, KeyDim, 100), Rows(6, ValueDim, 200));
        Assert.Equal(2, Launches);
        host.Write(0, expected, 0, Rows(6, KeyDim, 0), Rows(6, ValueDim, 1000));
        host.Write(1, expected, 0, Rows(6, KeyDim, 100), Rows(6, ValueDim, 200));
        AssertSame(expected, a);

        // The half of a block that a fork shares: keys, values and their scales of both layers.
        int before = Runtime.Streams[1].Operations.Count;
        CacheSequence b = cache.Fork(a), other = host.Fork(expected);
        cache.Extend(b, 1);
        host.Extend(other, 1);
        Assert.Equal(
            [2 * Heads * KeyDim, 2 * Heads * ValueDim, 2 * Heads * 4, 2 * Heads * 4],
            Runtime.Streams[1].Operations.Skip(before).Where(static operation => operation.Action == StreamAction.Copy).Take(4).Select(static operation => (int)operation.Bytes));
        cache.Write(0, b, 6, Tensor(1, KeyDim, 700), Tensor(1, ValueDim, 700));
        host.Write(0, other, 6, Rows(1, KeyDim, 700), Rows(1, ValueDim, 700));
        cache.Write(1, b, 6, Tensor(1, KeyDim, 70), Tensor(1, ValueDim, 70));
        host.Write(1, other, 6, Rows(1, KeyDim, 70), Rows(1, ValueDim, 70));
        AssertSame(other, b);
        AssertSame(expected, a);
        Assert.Equal(Saved(host, other).ToArray(), Saved(cache, b).ToArray());
        AssertSame(other, cache.Load(Saved(host, other)));

        void AssertSame(CacheSequence onHost, CacheSequence onDevice)
        {
            for (int layer = 0; layer < 2; layer++) CacheContents.AssertSame(CacheContents.Of(host, onHost, layer), cache.ContentsOf(onDevice, layer), $"layer {layer}");
        }
    }

    /// <summary>Scales are memory of the call like any other: what another stream wrote is waited for, and they stay while the GPU reads them.</summary>
    [Fact]
    public void A_call_over_a_cache_of_8_bits_has_its_scales()
    {
        var cache = new CudaPagedKeyValueCache<Float8E4M3>(Device, Options());
        CacheSequence a = cache.CreateSequence();
        cache.Append(a, Tensor(2, KeyDim, 0), Tensor(2, ValueDim, 0));
        PagedBatch batch = cache.CreateBatch();
        batch.Add(a, 2);
        using CudaTensor<float> query = Device.Allocate<float>(2, Heads, KeyDim), output = Device.Allocate<float>(2, Heads, ValueDim), one = Device.Allocate<float>(1);
        Refused("operands", () => CudaAttention.ForwardPaged(query, output, cache, 0, batch, operands: new CudaOperands { KeyScale = one }), "cache's own");
        Refused("operands", () => CudaAttention.ForwardPaged(query, output, cache, 0, batch, operands: new CudaOperands { ValueScale = one }), "cache's own");
        List<byte[]> parameters = [];
        Runtime.OnLaunch = (function, _, bytes) => parameters.Add(bytes);
        CudaAttention.ForwardPaged(query, output, cache, 0, batch);
        CallBlock block = MemoryMarshal.Read<CallBlock>(Assert.Single(parameters));
        Assert.Equal(((ulong)cache.GetKeyScales()!.Address, (ulong)cache.GetValueScales()!.Address), (block.KeyScale.First, block.ValueScale.First));
        Assert.Equal((4 * Heads, Heads, 1), (block.KeyScale.Strides.BlockStride, block.KeyScale.Strides.TokenStride, block.KeyScale.Strides.HeadStride));

        int before = Runtime.Living;
        cache.Dispose();
        Assert.Throws<ObjectDisposedException>(() => cache.GetKeyScales());
        Assert.Equal(before, Runtime.Living);
        Device.Synchronize();
        Assert.Equal(before - 4, Runtime.Living);
    }

    /// <summary>Who reads scales alone, as a copy to the host does, waits for the stream that wrote them.</summary>
    [Fact]
    public void Scales_that_another_stream_writes_are_waited_for()
    {
        using var cache = new CudaPagedKeyValueCache<sbyte>(Device, Options());
        using CudaStream stream = Device.CreateStream(), another = Device.CreateStream();
        CacheSequence a = cache.CreateSequence();
        cache.Append(a, Tensor(2, KeyDim, 0), Tensor(2, ValueDim, 0), stream);
        foreach (CudaTensor<float>? scales in (CudaTensor<float>?[])[cache.GetKeyScales(), cache.GetValueScales()])
        {
            int before = Runtime.Streams[1].Operations.Count;
            scales!.CopyTo(new float[8 * 4 * Heads], another);
            Assert.Equal(StreamAction.WaitFor, Runtime.Streams[1].Operations[before].Action);
            cache.Write(0, a, 0, Tensor(2, KeyDim, 0), Tensor(2, ValueDim, 0), stream);
        }
    }

    [Fact]
    public void Kernels_of_8_bits_are_prepared_for_rows_of_every_type()
    {
        using var cache = new CudaPagedKeyValueCache<sbyte>(Device, Options());
        cache.Prepare();
        Assert.Equal([.. ((AttentionElementType[])[AttentionElementType.Int8, .. Elements.Wide]).Select(static source => CachePlan.Function(source, AttentionElementType.Int8))], Runtime.Prepared);
    }
}
