using FusedAttention.Cuda.Tests.Fakes;
using Xunit;

namespace FusedAttention.Cuda.Tests;

/// <summary>Tests that measure the whole process run without company.</summary>
[CollectionDefinition(Name, DisableParallelization = true)]
public sealed class AloneDefinition
{
    public const string Name = "alone";
}

/// <summary>In steady state no call on a device allocates a byte on the managed heap, from the door to the stream.</summary>
[Collection(AloneDefinition.Name)]
public sealed class CudaAllocationTests : IDisposable
{
    private const int Heads = 4;
    private const int KeyValueHeads = 2;
    private const int Dim = 64;

    private static readonly AttentionOptions Options = new()
    {
        Mask = AttentionMask.CausalWindow(2000),
        AlibiSlopes = AlibiSlopes.ForHeads(Heads),
        SinkLogits = [0.5f, -1, 0, 2],
        SoftCap = 30,
    };

    private readonly RecordingRuntime _runtime = new() { Records = false, EndsAtOnce = true };
    private readonly CudaDevice _device;

    public CudaAllocationTests() => _device = new(_runtime);

    public void Dispose() => _device.Close();

    [Theory]
    [InlineData(64)]
    [InlineData(1)]
    public void Dense_calls_allocate_nothing(int queries)
    {
        int[] keyLengths = [300, 177];
        using CudaTensor<float> query = _device.Allocate<float>(2, queries, Heads, Dim), output = _device.Allocate<float>(2, queries, Heads, Dim);
        using CudaTensor<Half> key = _device.Allocate<Half>(2, 300, KeyValueHeads, Dim), value = _device.Allocate<Half>(2, 300, KeyValueHeads, Dim);
        using CudaTensor<float> lse = _device.Allocate<float>(2, Heads, queries), bias = _device.Allocate<float>(queries, 300);
        using CudaTensor<bool> mask = _device.Allocate<bool>(2, 1, queries, 300);
        Allocations.AssertNone(() => CudaAttention.Forward(
            query, key, value, output, Options, new CudaOperands { BooleanMask = mask, Bias = bias, LogSumExp = lse, KeyLengths = keyLengths }));
    }

    [Fact]
    public void Packed_calls_of_both_kernels_allocate_nothing()
    {
        int[] queries = [0, 1, 1, 71, 128], keys = [0, 2000, 2010, 2280, 2640];
        long[] offsets = [1999, 3, 200, 80];
        using CudaTensor<Half> query = _device.Allocate<Half>(128, Heads, Dim), output = _device.Allocate<Half>(128, Heads, Dim);
        using CudaTensor<Half> key = _device.Allocate<Half>(2640, KeyValueHeads, Dim), value = _device.Allocate<Half>(2640, KeyValueHeads, Dim);
        Allocations.AssertNone(() => CudaAttention.ForwardVariableLength(query, key, value, output, queries, keys, Options, new CudaOperands { QueryOffsets = offsets }));
    }

    /// <summary>Layers take turns, each with its own maps of tensors.</summary>
    [Fact]
    public void Calls_of_warpgroups_allocate_nothing_and_encode_their_tensors_once()
    {
        _device.PrefillForm = FusedAttention.Cuda.Planning.PrefillForm.Warpgroups;
        var options = new AttentionOptions { Mask = AttentionMask.Causal };
        using CudaTensor<Half> query = _device.Allocate<Half>(2, 128, Heads, Dim), output = _device.Allocate<Half>(2, 128, Heads, Dim);
        CudaTensor<Half>[] keys = [.. Enumerable.Range(0, 4).Select(_ => _device.Allocate<Half>(2, 300, KeyValueHeads, Dim))];
        Allocations.AssertNone(() =>
        {
            foreach (CudaTensor<Half> key in keys) CudaAttention.Forward(query, key, key, output, options);
        });
        Assert.InRange(_runtime.TensorMaps, 1 + keys.Length, 20);
        foreach (CudaTensor<Half> key in keys) key.Dispose();
    }

    /// <summary>Both launches of a call: blocks of 16 tokens are boxes of both, so queries, keys and values have a map each.</summary>
    [Fact]
    public void Calls_of_boxes_allocate_nothing_and_encode_their_tensors_once()
    {
        (_device.PrefillForm, _device.DecodeCopies) = (FusedAttention.Cuda.Planning.PrefillForm.Warpgroups, FusedAttention.Cuda.Planning.DecodeCopies.Boxes);
        int[] queries = [0, 1, 129], contexts = [2000, 500], tables = [.. Enumerable.Range(0, 2 * 128).Select(static i => i % 160)];
        using CudaTensor<Half> query = _device.Allocate<Half>(129, Heads, Dim), output = _device.Allocate<Half>(129, Heads, Dim);
        using CudaTensor<Half> keys = _device.Allocate<Half>(160, 16, KeyValueHeads, Dim), values = _device.Allocate<Half>(160, 16, KeyValueHeads, Dim);
        Allocations.AssertNone(() => CudaAttention.ForwardPaged(query, keys, values, output, new PagedSequences(queries, contexts, tables, 128), Options));
        Assert.Equal(3, _runtime.TensorMaps);
    }

    [Fact]
    public void Paged_calls_with_splits_allocate_nothing()
    {
        int[] queries = [0, 1, 2, 40], contexts = [5000, 17, 1600], tables = [.. Enumerable.Range(0, 3 * 320).Select(static i => i % 320)];
        using CudaTensor<float> query = _device.Allocate<float>(40, Heads, Dim), output = _device.Allocate<float>(40, Heads, Dim);
        using CudaTensor<Half> keys = _device.Allocate<Half>(320, 16, KeyValueHeads, Dim), values = _device.Allocate<Half>(320, 16, KeyValueHeads, Dim);
        Allocations.AssertNone(() => CudaAttention.ForwardPaged(query, keys, values, output, new PagedSequences(queries, contexts, tables, 320), Options));
    }

    [Fact]
    public void Changing_shapes_allocate_nothing_once_each_has_been_seen()
    {
        using CudaTensor<float> query = _device.Allocate<float>(64, Heads, Dim), output = _device.Allocate<float>(64, Heads, Dim), key = _device.Allocate<float>(3000, KeyValueHeads, Dim);
        using CudaTensor<float> one = _device.Allocate<float>(1, Heads, Dim), oneOutput = _device.Allocate<float>(1, Heads, Dim), wide = _device.Allocate<float>(40, Heads, 100);
        using CudaTensor<float> wideOutput = _device.Allocate<float>(40, Heads, 100);
        Allocations.AssertNone(() =>
        {
            CudaAttention.Forward(query, key, key, output, Options);
            CudaAttention.Forward(one, key, key, oneOutput, Options);
            CudaAttention.Forward(wide, wide, wide, wideOutput, Options);
        });
    }

    [Fact]
    public void Merging_allocates_nothing()
    {
        float[] sinks = [1, 2, 3, 4];
        using CudaTensor<Half> parts = _device.Allocate<Half>(3, 2, 5, Heads, Dim);
        using CudaTensor<float> lses = _device.Allocate<float>(3, 2, Heads, 5), lse = _device.Allocate<float>(2, Heads, 5), output = _device.Allocate<float>(2, 5, Heads, Dim);
        Allocations.AssertNone(() => CudaAttention.Merge(parts, lses, output, lse, sinks));
    }

    /// <summary>A call that waits for its next use holds nothing of the last one.</summary>
    [Fact]
    public void Memory_of_calls_that_are_over_is_not_kept_alive()
    {
        WeakReference[] memory = [.. CallOnce()];
        for (int i = 0; i < 3 && memory.Any(static reference => reference.IsAlive); i++)
        {
            GC.Collect();
            GC.WaitForPendingFinalizers();
        }

        Assert.All(memory, static reference => Assert.False(reference.IsAlive));

        [System.Runtime.CompilerServices.MethodImpl(System.Runtime.CompilerServices.MethodImplOptions.NoInlining)]
        WeakReference[] CallOnce()
        {
            using CudaTensor<float> query = _device.Allocate<float>(2, Heads, Dim), output = _device.Allocate<float>(2, Heads, Dim), key = _device.Allocate<float>(3000, KeyValueHeads, Dim);
            CudaAttention.Forward(query, key, key, output);
            return [new(query.Memory.Memory), new(output.Memory.Memory), new(key.Memory.Memory)];
        }
    }

    [Fact]
    public void A_step_over_a_cache_allocates_nothing() => AssertStepAllocatesNothing<Half>();

    /// <summary>The processor quantizes rows of the host in rented memory.</summary>
    [Fact]
    public void A_step_over_a_cache_of_8_bits_allocates_nothing()
    {
        AssertStepAllocatesNothing<sbyte>();
        AssertStepAllocatesNothing<Float8E4M3>();
    }

    private void AssertStepAllocatesNothing<T>()
        where T : unmanaged
    {
        using var cache = new CudaPagedKeyValueCache<T>(_device, new PagedKeyValueCacheOptions { Blocks = 200, BlockSize = 16, KeyValueHeads = KeyValueHeads, KeyDim = Dim });
        CacheSequence a = cache.CreateSequence(), b = cache.CreateSequence();
        cache.Extend([a, b], [2000, 700]);
        PagedBatch batch = cache.CreateBatch();
        using CudaTensor<Half> query = _device.Allocate<Half>(2, Heads, Dim), output = _device.Allocate<Half>(2, Heads, Dim), rows = _device.Allocate<Half>(2, KeyValueHeads, Dim);
        Half[] hostRows = new Half[2 * KeyValueHeads * Dim];
        Allocations.AssertNone(() =>
        {
            cache.Extend(a, 1);
            cache.Extend(b, 1);
            batch.Clear();
            batch.Add(a, 1);
            batch.Add(b, 1);
            cache.Write(0, batch, rows, rows);
            CudaAttention.ForwardPaged(query, output, cache, 0, batch, Options);
            cache.Write<Half>(0, batch, hostRows, hostRows);
            cache.Append(a, rows, rows);
            cache.Truncate(a, 2000);
            cache.Truncate(b, 700);
        });
    }

    [Fact]
    public void Staged_tables_allocate_nothing()
    {
        int[] queries = [.. Enumerable.Range(0, 65)], contexts = [.. Enumerable.Repeat(1600, 64)], tables = [.. Enumerable.Range(0, 64 * 100).Select(static i => i % 100)];
        using CudaTensor<Half> query = _device.Allocate<Half>(64, Heads, Dim), output = _device.Allocate<Half>(64, Heads, Dim), keys = _device.Allocate<Half>(100, 16, KeyValueHeads, Dim);
        Allocations.AssertNone(() => CudaAttention.ForwardPaged(query, keys, keys, output, new PagedSequences(queries, contexts, tables, 100), Options));
    }
}
