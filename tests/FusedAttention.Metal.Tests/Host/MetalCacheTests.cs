using FusedAttention.Metal.Emulation;
using FusedAttention.Metal.Launching;
using FusedAttention.Serving;
using Xunit;

namespace FusedAttention.Metal.Tests.Host;

/// <summary>The paged cache on a device that runs <c>cache.metal</c> by hand: what waits, what is queued, and that the contents come out as on the CPU.</summary>
public sealed class MetalCacheTests : IDisposable
{
    private const int Heads = 2, KeyDim = 3, ValueDim = 2;

    private readonly RecordingRuntime _runtime = new() { OnLaunch = CacheKernels.Run };
    private readonly MetalDevice _device;

    public MetalCacheTests() => _device = new(_runtime);

    public void Dispose() => _runtime.Dispose();

    [Fact]
    public void It_is_a_cache_like_any_other()
    {
        using var cache = new MetalPagedKeyValueCache<float>(_device, Options(layers: 2));
        CacheSequence sequence = cache.CreateSequence();
        cache.Extend(sequence, 5);
        cache.Write(1, sequence, 0, Rows(5, KeyDim, 100), Rows(5, ValueDim, 200));
        Assert.Equal(Rows(5, KeyDim, 100), Read(cache, sequence, 1, keys: true));
        Assert.Equal(Rows(5, ValueDim, 200), Read(cache, sequence, 1, keys: false));
        Assert.Equal([8, 4, Heads, KeyDim], cache.GetKeys(1).Lengths.ToArray());
        Assert.Equal([8, 4, Heads, ValueDim], cache.GetValues().Lengths.ToArray());
        Assert.Equal(4, _runtime.Living);
        Assert.Empty(_runtime.Submissions);
        Assert.Throws<ArgumentOutOfRangeException>(() => cache.GetKeys(2));

        using BatchScheduler scheduler = BatchScheduler.Create(cache);
        GenerationRequest request = scheduler.Add([1, 2, 3], 1);
        Assert.Equal(3, scheduler.Next().Tokens.Length);
        scheduler.Complete([7]);
        Assert.Equal(GenerationState.Finished, request.State);
    }

    /// <summary>Into the host's memory, and from there into another cache of the device, in blocks of another size; what the GPU was still to write is in it.</summary>
    [Fact]
    public void Sequences_travel_between_host_and_device()
    {
        using var cache = new MetalPagedKeyValueCache<float>(_device, Options(layers: 2));
        using var other = new MetalPagedKeyValueCache<float>(_device, Options(layers: 2));
        using var host = new PagedKeyValueCache<float>(Options(layers: 2) with { BlockSize = 3 });
        CacheSequence first = cache.CreateSequence(), sequence = cache.CreateSequence();
        cache.Extend([first, sequence], [3, 9]);
        using MetalTensor<float> keys = Tensor(9, KeyDim, 0), values = Tensor(9, ValueDim, 1000);
        cache.Write(0, sequence, 0, Rows(9, KeyDim, 100), Rows(9, ValueDim, 200));
        cache.Write(1, sequence, 0, keys, values);
        CacheSequence onHost = host.Load(Saved(cache, sequence)), loaded = other.Load(Saved(host, onHost));
        Assert.Equal(Rows(9, KeyDim, 100), Read(other, loaded, 0, keys: true));
        Assert.Equal(Rows(9, ValueDim, 200), Read(other, loaded, 0, keys: false));
        Assert.Equal(Rows(9, KeyDim, 0), Read(other, loaded, 1, keys: true));
        Assert.Equal(Rows(9, ValueDim, 1000), Read(other, loaded, 1, keys: false));
    }

    [Fact]
    public void Tensors_are_appended_by_the_GPU_without_waiting()
    {
        using var cache = new MetalPagedKeyValueCache<float>(_device, Options());
        using MetalTensor<float> keys = Tensor(6, KeyDim, 0), values = Tensor(6, ValueDim, 1000);
        CacheSequence a = cache.CreateSequence(), b = cache.CreateSequence();
        Assert.Equal(0, cache.Append(a, keys.Slice(..3, .., ..), values.Slice(..3, .., ..)));
        Assert.Equal(0, cache.Append(b, keys.Slice(..1, .., ..), values.Slice(..1, .., ..)));
        Assert.Equal(3, cache.Append(a, keys.Slice(3.., .., ..), values.Slice(3.., .., ..)));
        Assert.Equal(6, cache.Append(a, keys.Slice(0..0, .., ..), values.Slice(0..0, .., ..)));
        Assert.Equal(3, _runtime.Submissions.Count);
        Assert.Empty(_runtime.Waits);
        Assert.Equal(Rows(6, KeyDim, 0), Read(cache, a, 0, keys: true));
        Assert.Equal([3], _runtime.Waits.Distinct());
        Assert.Equal(Rows(6, ValueDim, 1000), Read(cache, a, 0, keys: false));
        Assert.Equal(Rows(1, KeyDim, 0), Read(cache, b, 0, keys: true));
    }

    [Fact]
    public void Strided_rows_and_whole_batches_are_written()
    {
        using var cache = new MetalPagedKeyValueCache<float>(_device, Options(layers: 3));
        CacheSequence a = cache.CreateSequence(), b = cache.CreateSequence();
        cache.Extend([a, b], [7, 2]);
        PagedBatch batch = cache.CreateBatch();
        batch.Add(a, 4);
        batch.Add(b, 2);

        // Heads outside of tokens for keys; values with gaps between tokens.
        using MetalTensor<float> keys = _device.Allocate<float>(Heads, 6, KeyDim), values = _device.Allocate<float>(6, 10);
        for (int t = 0; t < 6; t++)
        {
            for (int h = 0; h < Heads; h++)
            {
                for (int d = 0; d < KeyDim; d++) keys.AsTensorSpan()[h, t, d] = (t * Heads * KeyDim) + (h * KeyDim) + d;
                for (int d = 0; d < ValueDim; d++) values.AsTensorSpan()[t, (h * ValueDim) + d] = 500 + (t * Heads * ValueDim) + (h * ValueDim) + d;
            }
        }

        cache.Write(2, batch, keys.View(0, [6, Heads, KeyDim], [KeyDim, 6 * KeyDim, 1]), values.View(0, [6, Heads, ValueDim], [10, ValueDim, 1]));
        Assert.Single(_runtime.Submissions);
        Assert.Equal(Rows(4, KeyDim, 0), Read(cache, a, 2, keys: true)[(3 * Heads * KeyDim)..]);
        Assert.Equal(Rows(6, KeyDim, 0)[(4 * Heads * KeyDim)..], Read(cache, b, 2, keys: true));
        Assert.Equal(Rows(6, ValueDim, 500)[(4 * Heads * ValueDim)..], Read(cache, b, 2, keys: false));

        // One sequence at one place.
        cache.Write(0, a, 5, Tensor(2, KeyDim, 70), Tensor(2, ValueDim, 80));
        Assert.Equal(Rows(2, KeyDim, 70), Read(cache, a, 0, keys: true)[(5 * Heads * KeyDim)..]);
    }

    [Fact]
    public void Writing_by_the_processor_waits_for_the_layer_it_writes_and_reading_for_its_writes()
    {
        using var cache = new MetalPagedKeyValueCache<float>(_device, Options(layers: 2));
        using MetalTensor<float> keys = Tensor(2, KeyDim, 0), values = Tensor(2, ValueDim, 0);
        CacheSequence a = cache.CreateSequence();
        cache.Extend(a, 4);
        cache.Write(0, a, 0, keys, values);
        cache.Write(1, a, 0, Rows(2, KeyDim, 9), Rows(2, ValueDim, 9));
        cache.GetKeys(1).AsReadOnlyTensorSpan();
        Assert.Empty(_runtime.Waits);
        cache.Write(0, a, 2, Rows(2, KeyDim, 9), Rows(2, ValueDim, 9));
        Assert.Equal(1, Assert.Single(_runtime.Waits.Distinct()));

        // Attention reads the cache: who writes it next waits, who reads it does not.
        using MetalTensor<float> query = _device.Allocate<float>(1, Heads, KeyDim), output = _device.Allocate<float>(1, Heads, ValueDim);
        PagedBatch batch = cache.CreateBatch();
        batch.Add(a, 1);
        _runtime.Waits.Clear();
        MetalAttention.ForwardPaged(query, output, cache, 0, batch);
        cache.GetKeys().AsReadOnlyTensorSpan();
        cache.GetValues().AsReadOnlyTensorSpan();
        Assert.Empty(_runtime.Waits);
        cache.Free(a);
        CacheSequence next = cache.CreateSequence();
        cache.Extend(next, 4);
        cache.Write(0, next, 0, Rows(4, KeyDim, 1), Rows(4, ValueDim, 1));
        Assert.Contains(_runtime.Submissions.Count, _runtime.Waits);
    }

    [Fact]
    public void Copies_on_write_are_made_by_whoever_need_not_wait()
    {
        using var cache = new MetalPagedKeyValueCache<float>(_device, Options(layers: 2));
        CacheSequence a = cache.CreateSequence();
        cache.Extend(a, 6);
        for (int layer = 0; layer < 2; layer++) cache.Write(layer, a, 0, Rows(6, KeyDim, 100 * layer), Rows(6, ValueDim, 100 * layer));

        // Nothing is pending: the processor copies.
        CacheSequence b = cache.Fork(a);
        cache.Extend(b, 1);
        Assert.Empty(_runtime.Submissions);
        Assert.Equal(Rows(6, KeyDim, 100), Read(cache, b, 1, keys: true)[..(6 * Heads * KeyDim)]);

        // The GPU is to write the block first: it copies too, in one submission for all layers, behind that.
        cache.Write(1, a, 4, Tensor(2, KeyDim, 900), Tensor(2, ValueDim, 900));
        CacheSequence c = cache.Fork(a);
        cache.Extend(c, 1);
        Assert.Equal(2, _runtime.Submissions.Count);
        Assert.Equal(["copy_slots", "copy_slots"], _runtime.Submissions[1].Select(static launch => launch.Function.Name), StringComparer.Ordinal);
        Assert.Empty(_runtime.Waits);
        Assert.Equal(Rows(2, KeyDim, 900), Read(cache, c, 1, keys: true)[(4 * Heads * KeyDim)..(6 * Heads * KeyDim)]);
        Assert.Equal(Rows(6, ValueDim, 0), Read(cache, c, 0, keys: false)[..(6 * Heads * ValueDim)]);
        Assert.Equal([2], _runtime.Waits.Distinct());
    }

    [Fact]
    public void A_write_to_a_shared_block_leaves_the_other_owner_what_it_had()
    {
        using var cache = new MetalPagedKeyValueCache<float>(_device, Options());
        CacheSequence a = cache.CreateSequence();
        cache.Append(a, Tensor(6, KeyDim, 0), Tensor(6, ValueDim, 0));
        CacheSequence b = cache.Fork(a);
        PagedBatch batch = cache.CreateBatch();
        batch.Add(a, 3);
        batch.Add(b, 1);
        cache.Write(0, batch, Tensor(4, KeyDim, 700), Tensor(4, ValueDim, 700));
        Assert.Equal([.. Rows(3, KeyDim, 0), .. Rows(3, KeyDim, 700)], Read(cache, a, 0, keys: true));
        Assert.Equal([.. Rows(5, KeyDim, 0), .. Rows(4, KeyDim, 700)[(3 * Heads * KeyDim)..]], Read(cache, b, 0, keys: true));
    }

    [Fact]
    public void Rows_of_another_type_are_converted_by_whoever_writes()
    {
        // The kernel itself is the emulator's to run.
        using var runtime = new RecordingRuntime();
        var device = new MetalDevice(runtime);
        using var cache = new MetalPagedKeyValueCache<Half>(device, Options());
        CacheSequence a = cache.CreateSequence();
        cache.Append<float>(a, Rows(1, KeyDim, 7), Rows(1, ValueDim, 9));
        Assert.Equal((Half)12, cache.GetKeys().AsReadOnlyTensorSpan()[0, 0, 1, 2]);
        using MetalTensor<float> keys = device.Allocate<float>(2, Heads, KeyDim), values = device.Allocate<float>(2, Heads, ValueDim);
        cache.Append(a, keys, values);
        Assert.Equal(3, cache.GetLength(a));
        KernelFunction converting = Assert.Single(Assert.Single(runtime.Submissions)).Function;
        Assert.Equal(["ELEMENT_T half", "SOURCE_T float"], converting.Definitions.Select(static definition => $"{definition.Name} {definition.Value}"), StringComparer.Ordinal);

        // Compiled ahead: rows of the cache's type and of float, and copies on write.
        cache.Prepare();
        Assert.Contains(converting, runtime.Prepared);
    }

    [Fact]
    public void A_fork_between_two_layers_moves_the_batch_to_the_copy()
    {
        using var cache = new MetalPagedKeyValueCache<float>(_device, Options(layers: 2));
        CacheSequence a = cache.CreateSequence();
        cache.Extend(a, 3);
        PagedBatch batch = cache.CreateBatch();
        batch.Add(a, 3);
        cache.Write(0, batch, Tensor(3, KeyDim, 0), Tensor(3, ValueDim, 0));
        cache.Fork(a);
        cache.Write(1, batch, Tensor(3, KeyDim, 50), Tensor(3, ValueDim, 50));
        Assert.Equal(1, batch.Sequences.BlockTables[0]);
        Assert.Equal(Rows(3, KeyDim, 0), Read(cache, a, 0, keys: true));
        Assert.Equal(Rows(3, KeyDim, 50), Read(cache, a, 1, keys: true));
        using MetalTensor<float> query = _device.Allocate<float>(3, Heads, KeyDim), output = _device.Allocate<float>(3, Heads, ValueDim);
        using var other = new MetalPagedKeyValueCache<float>(_device, Options(layers: 2));
        Refused("batch", () => MetalAttention.ForwardPaged(query, output, other, 0, batch), "another cache");
        Assert.Throws<ArgumentOutOfRangeException>("layer", () => MetalAttention.ForwardPaged(query, output, cache, 2, batch));
        cache.Truncate(a, 1);
        Refused("batch", () => MetalAttention.ForwardPaged(query, output, cache, 0, batch), "out of date");
    }

    [Fact]
    public void Mistakes_are_refused_and_change_nothing()
    {
        using var cache = new MetalPagedKeyValueCache<float>(_device, Options());
        using var layered = new MetalPagedKeyValueCache<float>(_device, Options(layers: 2));
        var elsewhere = new MetalDevice(new RecordingRuntime());
        CacheSequence a = cache.CreateSequence();
        using MetalTensor<float> keys = Tensor(2, KeyDim, 0), values = Tensor(2, ValueDim, 0);
        Refused("keys", () => cache.Append(a, values, values), "must be [tokens, 2, 3]");
        Refused("values", () => cache.Append(a, keys, values.Slice(..1, .., ..)), "same number of tokens");
        Refused("keys", () => cache.Append(a, _device.Allocate<float>(2, Heads, KeyDim * 2).View(0, [2, Heads, KeyDim], [12, 6, 2]), values), "contiguous");
        Refused("keys", () => cache.Append(a, elsewhere.Allocate<float>(2, Heads, KeyDim), values), "the cache is on Recorder");
        Refused("keys", () => cache.Append(a, cache.GetKeys().Reshape(32, Heads, KeyDim).Slice(..2, .., ..), values), "part of the cache");
        Assert.Throws<ArgumentNullException>("values", () => cache.Append(a, keys, null!));
        Assert.Throws<InvalidOperationException>(() => layered.Append(layered.CreateSequence(), keys, values));
        Assert.Throws<OutOfBlocksException>(() => cache.Append(a, Tensor(33, KeyDim, 0), Tensor(33, ValueDim, 0)));
        Assert.Throws<ArgumentOutOfRangeException>(() => cache.Write(0, a, 0, keys, values));
        Assert.Throws<ArgumentOutOfRangeException>(() => cache.Write(1, a, 0, keys, values));
        PagedBatch batch = cache.CreateBatch();
        Refused("keys", () => cache.Write(0, batch, keys, values), "0 query tokens");
        cache.Extend(a, 2);
        batch.Add(a, 1);
        batch.Add(a, 1);
        Refused("batch", () => cache.Write(0, batch, keys, values), "twice");
        Refused("batch", () => layered.Write(0, batch, keys, values), "another cache");

        // What cannot be queued takes nothing.
        _runtime.PrepareFailure = new MetalException("no");
        Assert.Throws<MetalException>(() => cache.Append(a, keys, values));
        Assert.Equal(2, cache.GetLength(a));
        Assert.Empty(_runtime.Submissions);
        Assert.Throws<ArgumentNullException>("device", () => new MetalPagedKeyValueCache<float>(null!, Options()));
        Assert.Throws<NotSupportedException>(() => new MetalPagedKeyValueCache<int>(_device, Options()));
    }

    [Fact]
    public void Memory_goes_back_when_the_GPU_is_done_even_if_the_cache_is_disposed_before()
    {
        var cache = new MetalPagedKeyValueCache<float>(_device, Options(layers: 2));
        CacheSequence a = cache.CreateSequence();
        cache.Extend(a, 2);
        MetalTensor<float> keys = Tensor(2, KeyDim, 0), values = Tensor(2, ValueDim, 0), view = cache.GetKeys();
        cache.Prepare();
        cache.Write(0, a, 0, keys, values);
        cache.Dispose();
        cache.Dispose();
        Assert.Throws<ObjectDisposedException>(() => cache.GetKeys());
        Assert.Throws<ObjectDisposedException>(() => view.AsReadOnlyTensorSpan().FlattenedLength);
        Assert.Throws<ObjectDisposedException>(() => cache.Write(0, a, 0, keys, values));
        Assert.Equal(5, _runtime.Living);       // layer 0 of the cache, the two tensors, the transient chunk
        _device.Synchronize();
        Assert.Equal(3, _runtime.Living);
    }

    [Fact]
    public void A_cache_that_is_too_large_takes_nothing()
    {
        // The keys of a layer fit 64 MB, the values of the first one do not.
        Assert.Throws<MetalException>(() => new MetalPagedKeyValueCache<float>(
            _device, new PagedKeyValueCacheOptions { Blocks = 1 << 10, BlockSize = 1 << 6, KeyValueHeads = 1, KeyDim = 128, ValueDim = 512, Layers = 2 }));
        Assert.Equal(0, _runtime.Living);
    }

    private static PagedKeyValueCacheOptions Options(int layers = 1) =>
        new() { Blocks = 8, BlockSize = 4, KeyValueHeads = Heads, KeyDim = KeyDim, ValueDim = ValueDim, Layers = layers };

    private static float[] Rows(int tokens, int dim, int first) => [.. Enumerable.Range(first, tokens * Heads * dim).Select(static i => (float)i)];

    private MetalTensor<float> Tensor(int tokens, int dim, int first)
    {
        MetalTensor<float> tensor = _device.Allocate<float>(tokens, Heads, dim);
        tensor.CopyFrom(Rows(tokens, dim, first));
        return tensor;
    }

    private static MemoryStream Saved(KeyValueCache cache, CacheSequence sequence)
    {
        var stream = new MemoryStream();
        cache.Save(sequence, stream);
        stream.Position = 0;
        return stream;
    }

    private static float[] Read(MetalPagedKeyValueCache<float> cache, CacheSequence sequence, int layer, bool keys)
    {
        int[] table = new int[8];
        cache.CopyBlockTable(sequence, table);
        var contents = (keys ? cache.GetKeys(layer) : cache.GetValues(layer)).AsReadOnlyTensorSpan();
        var rows = new List<float>();
        for (int position = 0; position < cache.GetLength(sequence); position++)
        {
            for (int head = 0; head < Heads; head++)
                for (int d = 0; d < (keys ? KeyDim : ValueDim); d++) rows.Add(contents[table[position / 4], position % 4, head, d]);
        }

        return [.. rows];
    }

    private static void Refused(string parameter, Action call, string inMessage) =>
        Assert.Contains(inMessage, Assert.Throws<ArgumentException>(parameter, call).Message, StringComparison.Ordinal);
}
