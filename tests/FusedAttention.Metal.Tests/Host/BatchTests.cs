using FusedAttention.Metal.Emulation;
using FusedAttention.Metal.Launching;
using Xunit;

namespace FusedAttention.Metal.Tests.Host;

/// <summary>Many calls in one command buffer: what comes together, what makes it go, and what fails.</summary>
public sealed unsafe class BatchTests : IDisposable
{
    private const int Heads = 4, KeyValueHeads = 2, Dim = 64;

    private readonly RecordingRuntime _runtime = new();
    private readonly MetalDevice _device;
    private readonly MetalTensor<float> _query;
    private readonly MetalTensor<float> _key;
    private readonly MetalTensor<float> _output;

    public BatchTests()
    {
        _device = new(_runtime);
        _query = _device.Allocate<float>(1, Heads, Dim);
        _key = _device.Allocate<float>(40, KeyValueHeads, Dim);
        _output = _device.Allocate<float>(1, Heads, Dim);
    }

    public void Dispose()
    {
        _query.Dispose();
        _key.Dispose();
        _output.Dispose();
        _device.Close();
        Assert.Equal(0, _runtime.Living);
    }

    [Fact]
    public void Calls_of_every_kind_share_a_command_buffer_in_their_order()
    {
        const int Layers = 3;
        using var cache = new MetalPagedKeyValueCache<float>(_device, new PagedKeyValueCacheOptions { Layers = Layers, Blocks = 8, BlockSize = 16, KeyValueHeads = KeyValueHeads, KeyDim = Dim });
        CacheSequence sequence = cache.CreateSequence();
        cache.Extend(sequence, 1);
        PagedBatch step = cache.CreateBatch();
        step.Add(sequence, 1);
        using MetalTensor<float> rows = _device.Allocate<float>(1, KeyValueHeads, Dim), parts = _device.Allocate<float>(2, 1, Heads, Dim), lses = _device.Allocate<float>(2, Heads, 1);
        using (_device.Batch())
        {
            for (int layer = 0; layer < Layers; layer++)
            {
                cache.Write(layer, step, rows, rows);
                MetalAttention.ForwardPaged(_query, _output, cache, layer, step);
            }

            MetalAttention.Forward(_query, _key, _key, _output);
            MetalAttention.ForwardVariableLength(_query, _key, _key, _output, [0, 1], [0, 40]);
            MetalAttention.Merge(parts, lses, _output);
            Assert.Empty(_runtime.Submissions);
            Assert.True(_output.IsPending);
        }

        KernelLaunch[] launches = Assert.Single(_runtime.Submissions);
        Assert.Equal(["append", "decode", "append", "decode", "append", "decode", "decode", "decode", "merge"], launches.Select(static launch => launch.Function.Name), StringComparer.Ordinal);
        Assert.Empty(_runtime.Waits);
        Assert.True(_output.IsPending);
        _runtime.End(1);
        Assert.False(_output.IsPending);
        Forward();
        Assert.Equal(2, _runtime.Submissions.Count);
    }

    [Fact]
    public void Whoever_waits_makes_it_go()
    {
        using (_device.Batch())
        {
            Forward();
            _output.AsReadOnlySpan();
            Assert.Equal([1], _runtime.Waits);
            Assert.Single(_runtime.Submissions);

            // What was waited for is over: nothing is open, and nothing goes.
            _output.AsSpan();
            _device.Synchronize();
            Assert.Single(_runtime.Submissions);
            Forward();
            Forward();
            _device.Synchronize();
            Assert.Equal(2, _runtime.Submissions[1].Length);
            Forward();
            BackgroundThread.Start(() => _output.Wait()).Join();
            Assert.Equal(3, _runtime.Submissions.Count);

            // A tensor that the batch does not use does not.
            Forward();
            using MetalTensor<float> other = _device.Allocate<float>(4);
            other.AsSpan().Clear();
            Assert.Equal(3, _runtime.Submissions.Count);
        }

        Assert.Equal(4, _runtime.Submissions.Count);
    }

    [Fact]
    public void Memory_of_the_callers_that_is_given_back_within_a_batch_is_waited_for()
    {
        void* memory = System.Runtime.InteropServices.NativeMemory.AlignedAlloc(16384, 16384);
        using (_device.Batch())
        {
            MetalTensor<float> wrapped = _device.Wrap((float*)memory, 16384, 1, Heads, Dim);
            MetalAttention.Forward(_query, _key, _key, wrapped);
            wrapped.Dispose();
            Assert.Equal([1], _runtime.Waits);
        }

        System.Runtime.InteropServices.NativeMemory.AlignedFree(memory);
        Assert.Single(_runtime.Submissions);
    }

    [Fact]
    public void Tensors_that_are_disposed_within_a_batch_live_until_it_has_ended()
    {
        using (_device.Batch())
        {
            MetalTensor<float> output = _device.Allocate<float>(1, Heads, Dim);
            int living = _runtime.Living;
            MetalAttention.Forward(_query, _key, _key, output);
            output.Dispose();
            Assert.Equal(living + 1, _runtime.Living);      // and the call's tables
        }

        _device.Synchronize();
        Assert.Equal(4, _runtime.Living);
    }

    [Fact]
    public void A_call_of_another_thread_comes_behind_and_takes_the_batch_along()
    {
        using (_device.Batch())
        {
            Forward();
            BackgroundThread.Start(() => MetalAttention.Forward(_query, _key, _key, _output, new AttentionOptions { SoftCap = 5 })).Join();
            KernelLaunch[] launches = Assert.Single(_runtime.Submissions);
            Assert.Equal([0, 1], launches.Select(static launch => launch.Function.Constants.Single(static constant => constant.Name is "has_soft_cap").Bits));
            Forward();
            Assert.Single(_runtime.Submissions);
        }

        Assert.Equal(2, _runtime.Submissions.Count);
    }

    [Fact]
    public void Two_threads_with_batches_share_what_is_open()
    {
        using (_device.Batch())
        {
            Forward();
            BackgroundThread.Start(() =>
            {
                using (_device.Batch())
                {
                    Forward();
                    Assert.Empty(_runtime.Submissions);
                }
            }).Join();
            Assert.Equal(2, Assert.Single(_runtime.Submissions).Length);
            Forward();
        }

        Assert.Single(_runtime.Submissions[1]);
    }

    [Fact]
    public void Batches_within_batches_and_of_two_devices_end_with_the_outermost_of_their_device()
    {
        using var otherRuntime = new RecordingRuntime();
        var other = new MetalDevice(otherRuntime);
        using MetalTensor<float> tensor = other.Allocate<float>(1, 1, Dim);
        MetalBatch outer = _device.Batch();
        using (other.Batch())
        {
            using (_device.Batch()) Forward();
            MetalAttention.Forward(tensor, tensor, other.Allocate<float>(1, 1, Dim), other.Allocate<float>(1, 1, Dim));
            Assert.Empty(_runtime.Submissions);
            Assert.Empty(otherRuntime.Submissions);
        }

        Assert.Single(otherRuntime.Submissions);
        Forward();
        Assert.Empty(_runtime.Submissions);
        outer.Dispose();
        Assert.Equal(2, Assert.Single(_runtime.Submissions).Length);
        outer.Dispose();

        // Whoever disposes an outer one first has ended the inner one too.
        MetalBatch first = _device.Batch(), second = _device.Batch();
        Forward();
        first.Dispose();
        Assert.Equal(2, _runtime.Submissions.Count);
        second.Dispose();
        Forward();
        Assert.Equal(3, _runtime.Submissions.Count);
        using (_device.Batch())
        {
        }

        default(MetalBatch).Dispose();
        Assert.Equal(3, _runtime.Submissions.Count);
    }

    [Fact]
    public void The_GPU_is_not_kept_waiting_for_a_long_batch()
    {
        using (_device.Batch())
            for (int i = 0; i < 100; i++) Forward();
        Assert.Equal([64, 36], _runtime.Submissions.Select(static launches => launches.Length));
    }

    [Fact]
    public void A_command_buffer_keeps_to_its_budget_in_a_batch_too()
    {
        double cost = 0;
        Forward();
        foreach (KernelLaunch launch in _runtime.Submissions[0]) cost += launch.Cost;
        Assert.Equal(4.0 * 2 * 2 * Dim * Heads * 40, cost);
        using var runtime = new RecordingRuntime { SubmissionBudget = 3.5 * cost };
        var device = new MetalDevice(runtime);
        using MetalTensor<float> query = device.Allocate<float>(1, Heads, Dim), key = device.Allocate<float>(40, KeyValueHeads, Dim), output = device.Allocate<float>(1, Heads, Dim);
        using (device.Batch())
            for (int i = 0; i < 8; i++) MetalAttention.Forward(query, key, key, output);
        Assert.Equal([3, 3, 2], runtime.Submissions.Select(static launches => launches.Length));

        // A call that is cut by itself begins with what is open, and the next ones come behind its last piece.
        runtime.Submissions.Clear();
        using MetalTensor<float> many = device.Allocate<float>(40, Heads, 8), values = device.Allocate<float>(40, Heads, 8), outputs = device.Allocate<float>(40, Heads, 8);
        using (device.Batch())
        {
            MetalAttention.Forward(query, key, key, output);
            MetalAttention.Forward(many, values, values, outputs);
            MetalAttention.Forward(query, key, key, output);
        }

        Assert.True(runtime.Submissions.Count >= 2);
        Assert.All(runtime.Submissions, launches => Assert.InRange(launches.Sum(static launch => launch.Cost), 1, 3.5 * cost));
    }

    [Fact]
    public void A_call_that_throws_leaves_the_batch_as_it_was()
    {
        using (_device.Batch())
        {
            Forward();
            Assert.Throws<ArgumentException>(() => MetalAttention.Forward(_query, _key, _query, _output));
            _runtime.PrepareFailure = new MetalException("it does not compile");
            Assert.Throws<MetalException>(Forward);
            Assert.Throws<OperationCanceledException>(() => MetalAttention.Forward(_query, _key, _key, _output, cancellationToken: new CancellationToken(canceled: true)));
            Forward();
            Assert.Empty(_runtime.Submissions);
        }

        Assert.Equal(2, Assert.Single(_runtime.Submissions).Length);
    }

    [Fact]
    public void What_fails_on_the_GPU_is_told_to_who_waits_for_any_of_it()
    {
        using MetalTensor<float> other = _device.Allocate<float>(1, Heads, Dim);
        _runtime.Failing.Add(1);
        using (_device.Batch())
        {
            Forward();
            MetalAttention.Forward(_query, _key, _key, other);
        }

        Assert.Throws<MetalException>(() => other.AsReadOnlySpan());
        other.AsReadOnlySpan();
    }

    [Fact]
    public void Calls_of_a_batch_take_their_tables_from_one_piece_of_memory()
    {
        int chunks = _device.Transient.Chunks;
        Assert.Equal(0, chunks);
        for (int round = 0; round < 3; round++)
        {
            using (_device.Batch())
                for (int i = 0; i < 50; i++) Forward();
            Assert.Equal(round + 1, _device.Transient.Chunks);
        }

        // One for each command buffer under way, and used again once it has ended.
        _runtime.End(3);
        using (_device.Batch())
            for (int i = 0; i < 60; i++) Forward();
        Assert.Equal(3, _device.Transient.Chunks);
    }

    [Fact]
    public void A_batch_that_never_ends_uses_memory_again_that_has_been_committed()
    {
        int before = _runtime.Allocations;
        using (_device.Batch())
        {
            for (int i = 0; i < 10_000; i++)
            {
                Forward();
                if (i % 50 == 49) _output.Wait();
            }

        }

        Assert.Equal(before + 1, _runtime.Allocations);
    }

    [Fact]
    public void The_self_test_of_a_device_comes_between_two_command_buffers()
    {
        using var runtime = new RecordingRuntime { Device = new("New", AppleFamily: 9, MaxThreadgroupMemory: 32768, MaxBufferLength: 1 << 26, HasKnownLaneMap: false) };
        var device = new MetalDevice(runtime);
        using MetalTensor<float> parts = device.Allocate<float>(2, 1, Heads, Dim), lses = device.Allocate<float>(2, Heads, 1), query = device.Allocate<float>(1, Heads, Dim);
        using (device.Batch())
        {
            MetalAttention.Merge(parts, lses, query);
            MetalAttention.Forward(query, query, query, device.Allocate<float>(1, Heads, Dim));
        }

        Assert.Equal(["merge", "lane_map", "decode"], runtime.Submissions.Select(static launches => Assert.Single(launches).Function.Name), StringComparer.Ordinal);
    }

    private void Forward() => MetalAttention.Forward(_query, _key, _key, _output);
}
