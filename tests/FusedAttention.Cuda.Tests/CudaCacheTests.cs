using FusedAttention.Cuda.Launching;
using FusedAttention.Cuda.Planning;
using FusedAttention.Cuda.Tests.Fakes;
using FusedAttention.Serving;
using Xunit;

namespace FusedAttention.Cuda.Tests;

/// <summary>The paged cache on a device whose one kernel is the host's: what waits, what is queued, and that the contents come out as on the CPU.</summary>
public sealed class CudaCacheTests : RecordedCacheTests
{
    [Fact]
    public void It_is_a_cache_like_any_other()
    {
        using var cache = new CudaPagedKeyValueCache<float>(Device, Options(layers: 2));
        CacheSequence sequence = cache.CreateSequence();
        cache.Extend(sequence, 5);
        cache.Write(1, sequence, 0, Rows(5, KeyDim, 100), Rows(5, ValueDim, 200));
        Assert.Equal(Rows(5, KeyDim, 100), Read(cache, sequence, 1, keys: true));
        Assert.Equal(Rows(5, ValueDim, 200), Read(cache, sequence, 1, keys: false));
        Assert.Equal([8, 4, Heads, KeyDim], cache.GetKeys(1).Lengths.ToArray());
        Assert.Equal([8, 4, Heads, ValueDim], cache.GetValues().Lengths.ToArray());
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
        using var cache = new CudaPagedKeyValueCache<float>(Device, Options(layers: 2));
        using var other = new CudaPagedKeyValueCache<float>(Device, Options(layers: 2));
        using var host = new PagedKeyValueCache<float>(Options(layers: 2) with { BlockSize = 3 });
        CacheSequence first = cache.CreateSequence(), sequence = cache.CreateSequence();
        cache.Extend([first, sequence], [3, 9]);
        using CudaTensor<float> keys = Tensor(9, KeyDim, 0), values = Tensor(9, ValueDim, 1000);
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
        using var cache = new CudaPagedKeyValueCache<float>(Device, Options());
        using CudaTensor<float> keys = Tensor(6, KeyDim, 0), values = Tensor(6, ValueDim, 1000);
        CacheSequence a = cache.CreateSequence(), b = cache.CreateSequence();
        Assert.Equal(0, cache.Append(a, keys.Slice(..3, .., ..), values.Slice(..3, .., ..)));
        Assert.Equal(0, cache.Append(b, keys.Slice(..1, .., ..), values.Slice(..1, .., ..)));
        Assert.Equal(3, cache.Append(a, keys.Slice(3.., .., ..), values.Slice(3.., .., ..)));
        Assert.Equal(6, cache.Append(a, keys.Slice(0..0, .., ..), values.Slice(0..0, .., ..)));
        Assert.Equal(3, Launches);
        Assert.Empty(Runtime.Streams[0].Waits);
        Assert.Equal(Rows(6, KeyDim, 0), Read(cache, a, 0, keys: true));
        Assert.Equal(Rows(6, ValueDim, 1000), Read(cache, a, 0, keys: false));
        Assert.Equal(Rows(1, KeyDim, 0), Read(cache, b, 0, keys: true));
    }

    [Fact]
    public void Strided_rows_and_whole_batches_are_written()
    {
        using var cache = new CudaPagedKeyValueCache<float>(Device, Options(layers: 3));
        CacheSequence a = cache.CreateSequence(), b = cache.CreateSequence();
        cache.Extend([a, b], [7, 2]);
        PagedBatch batch = cache.CreateBatch();
        batch.Add(a, 4);
        batch.Add(b, 2);

        // Heads outside of tokens for keys; values with gaps between tokens.
        using CudaTensor<float> keys = Device.Allocate<float>(Heads, 6, KeyDim), values = Device.Allocate<float>(6, 10);
        float[] keyRows = new float[Heads * 6 * KeyDim], valueRows = new float[6 * 10];
        for (int t = 0; t < 6; t++)
        {
            for (int h = 0; h < Heads; h++)
            {
                for (int d = 0; d < KeyDim; d++) keyRows[(((h * 6) + t) * KeyDim) + d] = (t * Heads * KeyDim) + (h * KeyDim) + d;
                for (int d = 0; d < ValueDim; d++) valueRows[(t * 10) + (h * ValueDim) + d] = 500 + (t * Heads * ValueDim) + (h * ValueDim) + d;
            }
        }

        keys.CopyFrom(keyRows);
        values.CopyFrom(valueRows);
        cache.Write(2, batch, keys.View(0, [6, Heads, KeyDim], [KeyDim, 6 * KeyDim, 1]), values.View(0, [6, Heads, ValueDim], [10, ValueDim, 1]));
        Assert.Equal(1, Launches);
        Assert.Equal(Rows(4, KeyDim, 0), Read(cache, a, 2, keys: true)[(3 * Heads * KeyDim)..]);
        Assert.Equal(Rows(6, KeyDim, 0)[(4 * Heads * KeyDim)..], Read(cache, b, 2, keys: true));
        Assert.Equal(Rows(6, ValueDim, 500)[(4 * Heads * ValueDim)..], Read(cache, b, 2, keys: false));

        // One sequence at one place.
        cache.Write(0, a, 5, Tensor(2, KeyDim, 70), Tensor(2, ValueDim, 80));
        Assert.Equal(Rows(2, KeyDim, 70), Read(cache, a, 0, keys: true)[(5 * Heads * KeyDim)..]);
    }

    /// <summary>Rows of the host have been read when the call returns, and nobody waited.</summary>
    [Fact]
    public void Spans_are_staged_and_written_in_order()
    {
        using var cache = new CudaPagedKeyValueCache<float>(Device, Options(layers: 2));
        CacheSequence a = cache.CreateSequence();
        cache.Extend(a, 7);
        float[] keys = Rows(7, KeyDim, 9), values = Rows(7, ValueDim, 90);
        cache.Write(1, a, 0, keys, values);
        Assert.Equal([StreamAction.CopyToDevice, StreamAction.Launch], Operations.Select(static operation => operation.Action));
        Assert.Empty(Runtime.Streams[0].Waits);
        Array.Clear(keys);
        Assert.Equal(Rows(7, KeyDim, 9), Read(cache, a, 1, keys: true));
        Assert.Equal(Rows(7, ValueDim, 90), Read(cache, a, 1, keys: false));
    }

    [Fact]
    public void Many_rows_of_the_host_are_staged_in_pieces()
    {
        const int Tokens = 3000, Dim = 500;
        using var cache = new CudaPagedKeyValueCache<float>(Device, new PagedKeyValueCacheOptions { Blocks = 100, BlockSize = 37, KeyValueHeads = Heads, KeyDim = Dim });
        CacheSequence a = cache.CreateSequence();
        float[] rows = [.. Enumerable.Range(0, Tokens * Heads * Dim).Select(static i => (float)i)];
        cache.Append(a, rows, rows);

        // 64 blocks are looked up at once: 2,368 rows in three pieces of 1,047 at most, and the rest.
        Assert.Equal(4, Launches);
        float[] read = new float[100 * 37 * Heads * Dim];
        cache.GetKeys().CopyTo(read);
        int[] table = new int[100];
        cache.CopyBlockTable(a, table);
        for (int position = 0; position < Tokens; position++)
            Assert.Equal(rows[position * Heads * Dim], read[((table[position / 37] * 37) + (position % 37)) * Heads * Dim]);
    }

    [Fact]
    public void Slots_of_many_tokens_are_staged()
    {
        using var cache = new CudaPagedKeyValueCache<float>(Device, new PagedKeyValueCacheOptions { Blocks = 200, BlockSize = 4, KeyValueHeads = Heads, KeyDim = KeyDim, ValueDim = ValueDim });
        CacheSequence a = cache.CreateSequence();
        using CudaTensor<float> keys = Tensor(600, KeyDim, 0), values = Tensor(600, ValueDim, 0);
        int before = Operations.Length;
        cache.Append(a, keys, values);
        Assert.Equal([StreamAction.CopyToDevice, StreamAction.Launch], Operations[before..].Select(static operation => operation.Action));
        float[] read = new float[800 * Heads * KeyDim];
        cache.GetKeys().CopyTo(read);
        int[] table = new int[200];
        cache.CopyBlockTable(a, table);
        for (int position = 0; position < 600; position++) Assert.Equal(position * Heads * KeyDim, read[((table[position / 4] * 4) + (position % 4)) * Heads * KeyDim]);
    }

    [Fact]
    public void Copies_on_write_are_queued_in_one_submission()
    {
        using var cache = new CudaPagedKeyValueCache<float>(Device, Options(layers: 2));
        using CudaStream stream = Device.CreateStream();
        CacheSequence a = cache.CreateSequence();
        cache.Extend(a, 6);
        for (int layer = 0; layer < 2; layer++) cache.Write(layer, a, 0, Tensor(6, KeyDim, 100 * layer), Tensor(6, ValueDim, 100 * layer), stream);
        int before = Runtime.Streams[1].Operations.Count;
        CacheSequence b = cache.Fork(a);
        cache.Extend(b, 1);
        StreamOperation[] copies = [.. Runtime.Streams[1].Operations.Skip(before)];

        // It waits for the last write of each layer.
        Assert.Equal(
            [StreamAction.WaitFor, StreamAction.WaitFor, StreamAction.Copy, StreamAction.Copy, StreamAction.Copy, StreamAction.Copy], copies.Select(static operation => operation.Action));
        Assert.Single(copies.Select(static operation => operation.Submission).Distinct());
        Assert.Equal([2 * Heads * KeyDim * 4, 2 * Heads * ValueDim * 4], copies.Skip(2).Take(2).Select(static operation => (int)operation.Bytes));
        Assert.Equal(Rows(6, KeyDim, 100), Read(cache, b, 1, keys: true)[..(6 * Heads * KeyDim)]);

        // The next write of the other stream waits for the copies.
        cache.Write(0, b, 6, Tensor(1, KeyDim, 700), Tensor(1, ValueDim, 700), stream);
        Assert.Equal(StreamAction.WaitFor, Runtime.Streams[0].Operations[^2].Action);
        Assert.Equal(Rows(6, ValueDim, 0), Read(cache, a, 0, keys: false));
    }

    [Fact]
    public void A_write_to_a_shared_block_leaves_the_other_owner_what_it_had()
    {
        using var cache = new CudaPagedKeyValueCache<float>(Device, Options());
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
        using var cache = new CudaPagedKeyValueCache<Half>(Device, Options());
        CacheSequence a = cache.CreateSequence();
        cache.Append<float>(a, Rows(1, KeyDim, 7), Rows(1, ValueDim, 9));
        using CudaTensor<float> keys = Tensor(2, KeyDim, 20), values = Tensor(2, ValueDim, 0);
        cache.Append(a, keys, values);
        Half[] read = new Half[8 * 4 * Heads * KeyDim];
        cache.GetKeys().CopyTo(read);
        Assert.Equal([(Half)12, (Half)20, (Half)31], [read[5], read[6], read[17]]);
        KernelFunction converting = CachePlan.Function(AttentionElementType.Float32, AttentionElementType.Float16);
        Assert.Equal([CachePlan.Function(AttentionElementType.Float16, AttentionElementType.Float16), converting], Operations.Where(static o => o.Action == StreamAction.Launch).Select(static o => o.Function!));

        // Loaded ahead: what writes rows of the cache's type and of float.
        Runtime.Prepared.Clear();
        cache.Prepare();
        Assert.Contains(converting, Runtime.Prepared);
    }

    [Fact]
    public void A_fork_between_two_layers_moves_the_batch_to_the_copy()
    {
        using var cache = new CudaPagedKeyValueCache<float>(Device, Options(layers: 2));
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
        using CudaTensor<float> query = Device.Allocate<float>(3, Heads, KeyDim), output = Device.Allocate<float>(3, Heads, ValueDim);
        using var other = new CudaPagedKeyValueCache<float>(Device, Options(layers: 2));
        Refused("batch", () => CudaAttention.ForwardPaged(query, output, other, 0, batch), "another cache");
        Assert.Throws<ArgumentOutOfRangeException>("layer", () => CudaAttention.ForwardPaged(query, output, cache, 2, batch));
        cache.Truncate(a, 1);
        Refused("batch", () => CudaAttention.ForwardPaged(query, output, cache, 0, batch), "out of date");
    }

    [Fact]
    public void Mistakes_are_refused_and_change_nothing()
    {
        using var cache = new CudaPagedKeyValueCache<float>(Device, Options());
        using var layered = new CudaPagedKeyValueCache<float>(Device, Options(layers: 2));
        var elsewhere = new CudaDevice(new RecordingRuntime());
        CacheSequence a = cache.CreateSequence();
        using CudaTensor<float> keys = Tensor(2, KeyDim, 0), values = Tensor(2, ValueDim, 0);
        Refused("keys", () => cache.Append(a, values, values), "must be [tokens, 2, 3]");
        Refused("values", () => cache.Append(a, keys, values.Slice(..1, .., ..)), "same number of tokens");
        Refused("keys", () => cache.Append(a, Device.Allocate<float>(2, Heads, KeyDim * 2).View(0, [2, Heads, KeyDim], [12, 6, 2]), values), "contiguous");
        Refused("keys", () => cache.Append(a, elsewhere.Allocate<float>(2, Heads, KeyDim), values), "the cache is on Recorder");
        Refused("stream", () => cache.Append(a, keys, values, elsewhere.DefaultStream), "Recorder");
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
        Runtime.PrepareFailure = new CudaException("no");
        Assert.Throws<CudaException>(() => cache.Append(a, keys, values));
        Assert.Equal(2, cache.GetLength(a));
        Assert.Equal(0, Launches);
        Assert.Throws<ArgumentNullException>("device", () => new CudaPagedKeyValueCache<float>(null!, Options()));
        Assert.Throws<NotSupportedException>(() => new CudaPagedKeyValueCache<int>(Device, Options()));
        Assert.Contains(
            "holds float, Half, BFloat16, sbyte or Float8E4M3, not FusedAttention.Q8Block", Assert.Throws<NotSupportedException>(() => new CudaPagedKeyValueCache<Q8Block>(Device, Options() with { KeyDim = 32, ValueDim = 32 })).Message, StringComparison.Ordinal);

        // Codes come from streams and from the cache's own kernel, and have no door.
        using var codes = new CudaPagedKeyValueCache<sbyte>(Device, Options());
        CacheSequence ofCodes = codes.CreateSequence();
        using CudaTensor<sbyte> keyCodes = Device.Allocate<sbyte>(2, Heads, KeyDim), valueCodes = Device.Allocate<sbyte>(2, Heads, ValueDim);
        Refused("keys", () => codes.Append(ofCodes, keyCodes, valueCodes), "8-bit");
        Assert.Equal(0, codes.GetLength(ofCodes));
        using var ones = new CudaPagedKeyValueCache<sbyte>(Device, Options() with { KeyDim = 1, ValueDim = 1 });
        CudaTensor<float> scales = ones.GetValueScales()!.Reshape(32, Heads, 1).Slice(..2, .., ..);
        Refused("keys", () => ones.Append(ones.CreateSequence(), scales, scales), "part of the cache");
    }

    [Fact]
    public void Memory_goes_back_when_the_GPU_is_done_even_if_the_cache_is_disposed_before()
    {
        var cache = new CudaPagedKeyValueCache<float>(Device, Options(layers: 2));
        CacheSequence a = cache.CreateSequence();
        cache.Extend(a, 2);
        CudaTensor<float> keys = Tensor(2, KeyDim, 0), values = Tensor(2, ValueDim, 0), view = cache.GetKeys();
        cache.Prepare();
        cache.Write(0, a, 0, keys, values);
        cache.Dispose();
        cache.Dispose();
        Assert.Throws<ObjectDisposedException>(() => cache.GetKeys());
        Assert.Throws<ObjectDisposedException>(() => view.Slice(.., .., .., ..));
        Assert.Throws<ObjectDisposedException>(() => cache.Write(0, a, 0, keys, values));
        int before = Runtime.Living;
        Device.Synchronize();
        Assert.Equal(before - 2, Runtime.Living);       // layer 0; layer 1 nobody used
    }

    [Fact]
    public void A_cache_that_is_too_large_takes_nothing()
    {
        // The keys of a layer fit 64 MB, the values of the first one do not.
        Assert.Throws<CudaException>(() => new CudaPagedKeyValueCache<float>(
            Device, new PagedKeyValueCacheOptions { Blocks = 1 << 10, BlockSize = 1 << 6, KeyValueHeads = 1, KeyDim = 128, ValueDim = 512, Layers = 2 }));
        Assert.Equal(0, Runtime.Living);
    }

    private static float[] Read(CudaPagedKeyValueCache<float> cache, CacheSequence sequence, int layer, bool keys)
    {
        int[] table = new int[8];
        cache.CopyBlockTable(sequence, table);
        int dim = keys ? KeyDim : ValueDim;
        float[] contents = new float[8 * 4 * Heads * dim];
        (keys ? cache.GetKeys(layer) : cache.GetValues(layer)).CopyTo(contents);
        var rows = new List<float>();
        for (int position = 0; position < cache.GetLength(sequence); position++)
            rows.AddRange(contents.AsSpan(((table[position / 4] * 4) + (position % 4)) * Heads * dim, Heads * dim));
        return [.. rows];
    }
}
