using FusedAttention.Metal.Emulation;
using FusedAttention.Metal.ObjectiveC;
using Xunit;

namespace FusedAttention.Metal.Tests.Host;

/// <summary>Tests that measure the whole process run without company.</summary>
[CollectionDefinition(Name, DisableParallelization = true)]
public sealed class AloneDefinition
{
    public const string Name = "alone";
}

/// <summary>In steady state no call on a device allocates a byte on the managed heap, from the door to what is sent to Metal.</summary>
[Collection(AloneDefinition.Name)]
public sealed class MetalAllocationTests : IDisposable
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

    private readonly QuietRuntime _runtime = new();
    private readonly MetalDevice _device;

    public MetalAllocationTests() => _device = new(_runtime);

    public void Dispose() => _device.Close();

    [Theory]
    [InlineData(64)]
    [InlineData(1)]
    public void Dense_calls_allocate_nothing(int queries)
    {
        int[] keyLengths = [300, 177];
        using MetalTensor<float> query = _device.Allocate<float>(2, queries, Heads, Dim), output = _device.Allocate<float>(2, queries, Heads, Dim);
        using MetalTensor<Half> key = _device.Allocate<Half>(2, 300, KeyValueHeads, Dim), value = _device.Allocate<Half>(2, 300, KeyValueHeads, Dim);
        using MetalTensor<float> lse = _device.Allocate<float>(2, Heads, queries), bias = _device.Allocate<float>(queries, 300);
        using MetalTensor<bool> mask = _device.Allocate<bool>(2, 1, queries, 300);
        Allocations.AssertNone(() => MetalAttention.Forward(
            query, key, value, output, Options, new MetalOperands { BooleanMask = mask, Bias = bias, LogSumExp = lse, KeyLengths = keyLengths }));
    }

    [Fact]
    public void Packed_calls_of_both_kernels_allocate_nothing()
    {
        int[] queries = [0, 1, 1, 71, 128], keys = [0, 2000, 2010, 2280, 2640];
        long[] offsets = [1999, 3, 200, 80];
        using MetalTensor<Half> query = _device.Allocate<Half>(128, Heads, Dim), output = _device.Allocate<Half>(128, Heads, Dim);
        using MetalTensor<Half> key = _device.Allocate<Half>(2640, KeyValueHeads, Dim), value = _device.Allocate<Half>(2640, KeyValueHeads, Dim);
        Allocations.AssertNone(() => MetalAttention.ForwardVariableLength(query, key, value, output, queries, keys, Options, new MetalOperands { QueryOffsets = offsets }));
    }

    [Fact]
    public void Paged_calls_with_splits_allocate_nothing()
    {
        int[] queries = [0, 1, 2, 40], contexts = [5000, 17, 1600], tables = [.. Enumerable.Range(0, 3 * 320).Select(static i => i % 320)];
        using MetalTensor<float> query = _device.Allocate<float>(40, Heads, Dim), output = _device.Allocate<float>(40, Heads, Dim);
        using MetalTensor<Half> keys = _device.Allocate<Half>(320, 16, KeyValueHeads, Dim), values = _device.Allocate<Half>(320, 16, KeyValueHeads, Dim);
        Allocations.AssertNone(() => MetalAttention.ForwardPaged(query, keys, values, output, new PagedSequences(queries, contexts, tables, 320), Options));
    }

    [Fact]
    public void Changing_shapes_allocate_nothing_once_each_has_been_seen()
    {
        using MetalTensor<float> query = _device.Allocate<float>(64, Heads, Dim), output = _device.Allocate<float>(64, Heads, Dim), key = _device.Allocate<float>(3000, KeyValueHeads, Dim);
        using MetalTensor<float> one = _device.Allocate<float>(1, Heads, Dim), oneOutput = _device.Allocate<float>(1, Heads, Dim), wide = _device.Allocate<float>(40, Heads, 100);
        using MetalTensor<float> wideOutput = _device.Allocate<float>(40, Heads, 100);
        Allocations.AssertNone(() =>
        {
            MetalAttention.Forward(query, key, key, output, Options);
            MetalAttention.Forward(one, key, key, oneOutput, Options);
            MetalAttention.Forward(wide, wide, wide, wideOutput, Options);
        });
    }

    [Fact]
    public void Calls_with_functions_between_others_allocate_nothing()
    {
        AttentionOptions options = Options with
        {
            ScoreFunction = ScoreFunction.Of(new LinearBias(new ScoreTable([1, 2, 3, 4]))),
            MaskFunction = MaskFunction.Of(new PrefixMask(new ScoreTable([5]))),
        };
        using MetalTensor<Half> query = _device.Allocate<Half>(64, Heads, Dim), output = _device.Allocate<Half>(64, Heads, Dim), key = _device.Allocate<Half>(300, KeyValueHeads, Dim);
        Allocations.AssertNone(() =>
        {
            MetalAttention.Forward(query, key, key, output, options);
            MetalAttention.Forward(query, key, key, output, Options);
        });
    }

    [Fact]
    public void Long_calls_of_several_command_buffers_allocate_nothing()
    {
        using MetalTensor<Half> query = _device.Allocate<Half>(40_000, Heads, 8), output = _device.Allocate<Half>(40_000, Heads, 8);
        long before = _runtime.Submitted;
        MetalAttention.Forward(query, query, query, output);
        Assert.True(_runtime.Submitted > before + 1, "The call is one command buffer.");
        Allocations.AssertNone(() => MetalAttention.Forward(query, query, query, output), calls: 4);
    }

    [Fact]
    public void Merging_allocates_nothing()
    {
        float[] sinks = [1, 2, 3, 4];
        using MetalTensor<Half> parts = _device.Allocate<Half>(3, 2, 5, Heads, Dim);
        using MetalTensor<float> lses = _device.Allocate<float>(3, 2, Heads, 5), lse = _device.Allocate<float>(2, Heads, 5), output = _device.Allocate<float>(2, 5, Heads, Dim);
        Allocations.AssertNone(() => MetalAttention.Merge(parts, lses, output, lse, sinks));
    }

    /// <summary>Rows of tensors, of the cache's type and of another, for a batch, a sequence and a cache of one layer; and attention over them.</summary>
    [Fact]
    public void A_step_over_a_cache_allocates_nothing() => AssertStepAllocatesNothing<Half>();

    [Fact]
    public void A_step_over_a_cache_of_8_bits_allocates_nothing() => AssertStepAllocatesNothing<Float8E4M3>();

    private void AssertStepAllocatesNothing<T>()
        where T : unmanaged
    {
        using var cache = new MetalPagedKeyValueCache<T>(_device, new PagedKeyValueCacheOptions { Blocks = 200, BlockSize = 16, KeyValueHeads = KeyValueHeads, KeyDim = Dim });
        CacheSequence a = cache.CreateSequence(), b = cache.CreateSequence();
        cache.Extend([a, b], [2000, 700]);
        PagedBatch batch = cache.CreateBatch();
        using MetalTensor<Half> query = _device.Allocate<Half>(2, Heads, Dim), output = _device.Allocate<Half>(2, Heads, Dim), rows = _device.Allocate<Half>(2, KeyValueHeads, Dim);
        using MetalTensor<float> wide = _device.Allocate<float>(40, KeyValueHeads, Dim);
        Allocations.AssertNone(() =>
        {
            cache.Extend(a, 1);
            cache.Extend(b, 1);
            batch.Clear();
            batch.Add(a, 1);
            batch.Add(b, 1);
            cache.Write(0, batch, rows, rows);
            MetalAttention.ForwardPaged(query, output, cache, 0, batch, Options);
            cache.Write(0, a, 1900, wide, wide);
            cache.Append(a, rows, rows);
            cache.Truncate(a, 2000);
            cache.Truncate(b, 700);
        });
    }

    [Fact]
    public void Batches_allocate_nothing()
    {
        using var cache = new MetalPagedKeyValueCache<Half>(_device, new PagedKeyValueCacheOptions { Layers = 8, Blocks = 200, BlockSize = 16, KeyValueHeads = KeyValueHeads, KeyDim = Dim });
        CacheSequence sequence = cache.CreateSequence();
        cache.Extend(sequence, 2000);
        PagedBatch step = cache.CreateBatch();
        step.Add(sequence, 1);
        using MetalTensor<Half> query = _device.Allocate<Half>(1, Heads, Dim), output = _device.Allocate<Half>(1, Heads, Dim), rows = _device.Allocate<Half>(1, KeyValueHeads, Dim);
        long before = _runtime.Submitted;
        Allocations.AssertNone(() =>
        {
            using (_device.Batch())
            {
                for (int layer = 0; layer < 8; layer++)
                {
                    cache.Write(layer, step, rows, rows);
                    MetalAttention.ForwardPaged(query, output, cache, layer, step, Options);
                }
            }
        });
        Assert.True(_runtime.Submitted > before);
    }

    /// <summary>Copies on write, by the GPU because it is at work on the cache.</summary>
    [Fact]
    public void A_copy_on_write_allocates_nothing_beyond_the_fork()
    {
        using var runtime = new QuietRuntime { Lag = 1 };
        var device = new MetalDevice(runtime);
        var cache = new MetalPagedKeyValueCache<Half>(device, new PagedKeyValueCacheOptions { Layers = 3, Blocks = 100, BlockSize = 16, KeyValueHeads = KeyValueHeads, KeyDim = Dim });
        CacheSequence sequence = cache.CreateSequence();
        cache.Extend(sequence, 24);
        using MetalTensor<Half> rows = device.Allocate<Half>(1, KeyValueHeads, Dim);
        long fork = Measure(() => cache.Free(cache.Fork(sequence))), written = Measure(() =>
        {
            CacheSequence copy = cache.Fork(sequence);
            cache.Write(0, copy, 23, rows, rows);
            cache.Free(copy);
        });
        Assert.Equal(fork, written);

        long Measure(Action step)
        {
            for (int i = 0; i < 20; i++) step();
            long least = long.MaxValue;
            for (int round = 0; round < 8; round++)
            {
                long before = GC.GetAllocatedBytesForCurrentThread();
                for (int i = 0; i < 20; i++) step();
                least = Math.Min(least, GC.GetAllocatedBytesForCurrentThread() - before);
            }

            return least;
        }
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
            using MetalTensor<float> query = _device.Allocate<float>(2, Heads, Dim), output = _device.Allocate<float>(2, Heads, Dim), key = _device.Allocate<float>(3000, KeyValueHeads, Dim);
            MetalAttention.Forward(query, key, key, output);
            return [new(query.Memory.Memory), new(output.Memory.Memory), new(key.Memory.Memory)];
        }
    }

    /// <summary>Down to the messages: over a Metal that takes them and computes nothing.</summary>
    [Fact]
    public void Sending_allocates_nothing()
    {
        using var fake = new FakeMetal();
        using var runtime = new MetalRuntime(NativeObject.Own(Native.CreateSystemDefaultDevice(), "the device"));
        var device = new MetalDevice(runtime);
        try
        {
            using MetalTensor<Half> query = device.Allocate<Half>(2, 1, Heads, Dim), key = device.Allocate<Half>(2, 3000, KeyValueHeads, Dim), output = device.Allocate<Half>(2, 1, Heads, Dim);
            Allocations.AssertNone(() =>
            {
                MetalAttention.Forward(query, key, key, output, Options);
                output.Wait();
            });
            Allocations.AssertNone(() =>
            {
                using (device.Batch())
                    for (int i = 0; i < 4; i++) MetalAttention.Forward(query, key, key, output, Options);
                output.Wait();
            });
        }
        finally
        {
            device.Close();
        }
    }
}
