using System.Diagnostics.Metrics;
using System.Numerics.Tensors;
using FusedAttention.Metal.Emulation;
using FusedAttention.Metal.Launching;
using FusedAttention.Metal.Planning;
using Xunit;

namespace FusedAttention.Metal.Tests.Host;

/// <summary>What calls check, queue, hold and tell, on a device that computes nothing.</summary>
public sealed class MetalCallTests : IDisposable
{
    private readonly RecordingRuntime _runtime = new();
    private readonly MetalDevice _device;

    public MetalCallTests() => _device = new(_runtime);

    public void Dispose() => _runtime.Dispose();

    /// <summary>Scales are the call's like other tensors, and what of 8 bits the kernels do not take is refused in the words of the other GPUs.</summary>
    [Fact]
    public void Keys_of_8_bits_come_with_scales()
    {
        using MetalTensor<Half> query = _device.Allocate<Half>(5, 8, 64), output = _device.Allocate<Half>(5, 8, 64);
        using MetalTensor<sbyte> key = _device.Allocate<sbyte>(70, 2, 64);
        using MetalTensor<float> scale = _device.Allocate<float>(70, 2), heads = _device.Allocate<float>(1, 2);
        MetalAttention.Forward(query, key, key, output, operands: new MetalOperands { KeyScale = scale, ValueScale = heads });
        foreach (MetalTensor tensor in (MetalTensor[])[query, key, scale, heads, output]) Assert.True(tensor.IsPending);
        KernelLaunch launch = _runtime.Submissions[0][0];
        Assert.Equal(scale.Memory.Memory, launch.Buffers.Single(static binding => binding.Index == BufferSlot.KeyScale).Memory);
        Assert.Equal(heads.Memory.Memory, launch.Buffers.Single(static binding => binding.Index == BufferSlot.ValueScale).Memory);

        using MetalTensor<Q8Block> blocks = _device.Allocate<Q8Block>(70, 2, 2);
        using MetalTensor<sbyte> query8 = _device.Allocate<sbyte>(5, 8, 64);
        Assert.Contains(
            "of 8 bits the Metal kernels take Int8 and Float8E4M3", Assert.Throws<NotSupportedException>(() => MetalAttention.Forward(query, blocks, blocks, output)).Message, StringComparison.Ordinal);
        Refused("query", () => MetalAttention.Forward(query8, key, key, query8), "8-bit types are for keys and values");
        Refused("operands", () => MetalAttention.Forward(query, query, query, output, operands: new MetalOperands { KeyScale = scale }), "KeyScale goes with elements of Int8 or Float8E4M3");
        var scores = new AttentionOptions { ScoreFunction = ScoreFunction.Of(new TanhCap(30)) };
        Assert.Contains("no score functions over keys of Int8", Assert.Throws<NotSupportedException>(() => MetalAttention.Forward(query, key, key, output, scores)).Message, StringComparison.Ordinal);
        Assert.Single(_runtime.Submissions);
    }

    /// <summary>Metal has 31 slots for buffers: over codes two of those that tables of functions may have are the scales'.</summary>
    [Fact]
    public void Functions_over_keys_of_8_bits_have_fewer_tables()
    {
        using MetalTensor<Half> query = _device.Allocate<Half>(5, 8, 64), output = _device.Allocate<Half>(5, 8, 64), halves = _device.Allocate<Half>(70, 2, 64);
        using MetalTensor<sbyte> key = _device.Allocate<sbyte>(70, 2, 64);
        MetalAttention.Forward(query, key, key, output, With(masks: 7));
        MetalAttention.Forward(query, halves, halves, output, With(masks: 8));
        Assert.Contains(
            $"with up to {BufferSlot.MostTablesOfCodes} tables; the call's have 16", Assert.Throws<NotSupportedException>(() => MetalAttention.Forward(query, key, key, output, With(masks: 8))).Message, StringComparison.Ordinal);

        // A mask of documents has two tables: those of queries and of keys.
        static AttentionOptions With(int masks) =>
            new() { MaskFunction = Enumerable.Range(0, masks).Select(static i => MaskFunction.Of(new DocumentMask([.. Enumerable.Repeat(i, 70)]))).Aggregate(static (all, one) => all.And(one)) };
    }

    [Fact]
    public void A_call_queues_its_work_and_returns()
    {
        using MetalTensor<Half> query = _device.Allocate<Half>(2, 5, 8, 64), output = _device.Allocate<Half>(2, 5, 8, 64);
        using MetalTensor<Half> key = _device.Allocate<Half>(2, 70, 2, 64), value = _device.Allocate<Half>(2, 70, 2, 64);
        using MetalTensor<float> logSumExp = _device.Allocate<float>(2, 8, 5);
        using MetalTensor<bool> mask = _device.Allocate<bool>(5, 70);
        using MetalTensor<BFloat16> bias = _device.Allocate<BFloat16>(8, 1, 70);
        MetalAttention.Forward(query, key, value, output, operands: new MetalOperands { LogSumExp = logSumExp, BooleanMask = mask, Bias = bias });
        Assert.NotEmpty(_runtime.Submissions);
        Assert.Empty(_runtime.Waits);
        foreach (MetalTensor tensor in (MetalTensor[])[query, key, value, output, logSumExp, mask, bias]) Assert.True(tensor.IsPending);

        // Every launch was prepared before any was submitted, and each tensor's own place is what the GPU gets.
        Assert.All(_runtime.Submissions.SelectMany(static launches => launches), launch => Assert.Contains(launch.Function, _runtime.Prepared));
        BufferBinding[] bound = [.. _runtime.Submissions[0][0].Buffers.Where(binding => binding.Memory == output.Memory.Memory)];
        Assert.True(Assert.Single(bound).IsWritten);
        query.AsReadOnlySpan();
        Assert.Empty(_runtime.Waits);
        output.AsReadOnlySpan();
        Assert.Equal([_runtime.Submissions.Count], _runtime.Waits);
    }

    [Fact]
    public void Tensors_may_be_disposed_as_soon_as_a_call_has_returned()
    {
        MetalTensor<float> query = _device.Allocate<float>(5, 8, 64), key = _device.Allocate<float>(70, 2, 64), output = _device.Allocate<float>(5, 8, 64);
        MetalAttention.Forward(query, key, key, output);
        int before = _runtime.Living;
        foreach (MetalTensor<float> tensor in (MetalTensor<float>[])[query, key, output]) tensor.Dispose();
        Assert.Equal(before, _runtime.Living);
        _device.Synchronize();
        Assert.Equal(before - 3, _runtime.Living);
        Assert.Throws<ObjectDisposedException>(() => MetalAttention.Forward(query, key, key, output));
        _device.Close();
        Assert.Equal(0, _runtime.Living);
    }

    [Fact]
    public void Tables_stay_as_they_are_until_the_call_has_ended()
    {
        using MetalTensor<float> query = _device.Allocate<float>(5, 8, 64), key = _device.Allocate<float>(70, 2, 64), output = _device.Allocate<float>(5, 8, 64);
        for (int i = 1; i <= 3; i++)
        {
            MetalAttention.Forward(query, key, key, output);
            Assert.Equal(i, _device.Transient.Chunks);
        }

        _device.Synchronize();
        MetalAttention.Forward(query, key, key, output);
        Assert.Equal(3, _device.Transient.Chunks);
    }

    [Fact]
    public void A_view_is_bound_where_it_begins()
    {
        using MetalTensor<float> packed = _device.Allocate<float>(7, 3, 8, 64), output = _device.Allocate<float>(7, 8, 64);
        MetalTensor<float> Part(int i) => packed.Slice(.., i..(i + 1), .., ..).View(0, [7, 8, 64], [3 * 8 * 64, 64, 1]);
        MetalAttention.Forward(Part(0), Part(1), Part(2), output);
        long[] offsets = [.. _runtime.Submissions[0][0].Buffers.Where(binding => binding.Memory == packed.Memory.Memory).Select(static binding => binding.Offset).Distinct().Order()];
        Assert.Equal([0, 8 * 64 * 4, 2 * 8 * 64 * 4], offsets);
    }

    [Fact]
    public void Calls_with_nothing_to_do_queue_nothing()
    {
        using MetalTensor<float> none = _device.Allocate<float>(0, 8, 64), key = _device.Allocate<float>(5, 8, 64);
        MetalAttention.Forward(none, key, key, none.Slice(.., .., ..));
        MetalAttention.ForwardVariableLength(none, key, key, none.Slice(.., .., ..), [0, 0], [0, 5]);
        Assert.Empty(_runtime.Submissions);
    }

    [Fact]
    public void Arguments_are_refused_in_the_words_of_the_CPU()
    {
        // Query, key, value and output of one call each, and what it is told.
        Same([5, 8, 64], [70, 3, 64], [70, 3, 64], [5, 8, 64]);
        Same([5, 8, 64], [70, 2, 32], [70, 2, 64], [5, 8, 64]);
        Same([5, 8, 64], [70, 2, 64], [71, 2, 64], [5, 8, 64]);
        Same([5, 8, 64], [70, 2, 64], [70, 2, 64], [5, 8, 65]);
        Same([1, 5, 8, 64], [70, 2, 64], [70, 2, 64], [5, 8, 64]);
        Same([5, 64], [70, 64], [70, 64], [5, 64]);
        Same([5, 8, 5000], [70, 2, 5000], [70, 2, 64], [5, 8, 64]);
        Same([2, 5, 8, 64], [3, 70, 2, 64], [3, 70, 2, 64], [2, 5, 8, 64]);
        Same([5, 8, 64], [70, 2, 64], [70, 2, 64], [5, 8, 64], new AttentionOptions { SinkLogits = [1, 2, 3] });

        void Same(nint[] query, nint[] key, nint[] value, nint[] output, AttentionOptions? options = null)
        {
            ArgumentException expected = Assert.Throws<ArgumentException>(() => Attention.Forward(
                new ReadOnlyTensorSpan<float>(New(query), query), new ReadOnlyTensorSpan<float>(New(key), key), new ReadOnlyTensorSpan<float>(New(value), value),
                new TensorSpan<float>(New(output), output), options));
            ArgumentException actual = Assert.Throws<ArgumentException>(() => MetalAttention.Forward(
                _device.Allocate<float>(query), _device.Allocate<float>(key), _device.Allocate<float>(value), _device.Allocate<float>(output), options));
            Assert.Equal((expected.Message, expected.ParamName), (actual.Message, actual.ParamName));
            Assert.Empty(_runtime.Submissions);
        }

        static float[] New(nint[] lengths) => new float[lengths.Aggregate((a, b) => a * b)];
    }

    [Fact]
    public void Operands_types_and_overlaps_are_checked_too()
    {
        using MetalTensor<float> query = _device.Allocate<float>(5, 8, 64), key = _device.Allocate<float>(70, 2, 64), output = _device.Allocate<float>(5, 8, 64);
        using MetalTensor<double> doubles = _device.Allocate<double>(5, 8, 64);
        using MetalTensor<Half> halves = _device.Allocate<Half>(5, 8, 64);
        Refused("query", () => MetalAttention.Forward(doubles, doubles, doubles, doubles), "Double");
        Refused("key", () => MetalAttention.Forward(halves, key, key, halves), "Float32 under a query of Float16");
        Refused("output", () => MetalAttention.Forward(query, key, key, query), "overlaps query");
        Refused("output", () => MetalAttention.Forward(query, key, key, key.View(0, [5, 8, 64], [64, 0, 1])), "overlaps itself");
        Refused("operands", () => MetalAttention.Forward(query, key, key, output, operands: new MetalOperands { BooleanMask = _device.Allocate<bool>(6, 70) }), "BooleanMask has shape [6, 70]");
        Refused("operands", () => MetalAttention.Forward(query, key, key, output, operands: new MetalOperands { Bias = doubles }), "Bias has elements of type Double");
        Refused("operands", () => MetalAttention.Forward(query, key, key, output, operands: new MetalOperands { LogSumExp = _device.Allocate<float>(5, 8) }), "expected [8, 5]");
        Refused("operands", () => MetalAttention.Forward(query, key, key, output, operands: new MetalOperands { KeyLengths = [1, 2] }), "KeyLengths has 2 entries");
        Refused("operands", () => MetalAttention.Forward(query, key, key, output, operands: new MetalOperands { LogSumExp = output.View(0, [8, 5], [5, 1]) }), "overlaps output");
        Assert.Throws<ArgumentNullException>("value", () => MetalAttention.Forward(query, key, null!, output));
        Assert.Throws<ArgumentNullException>("valueCache", () => MetalAttention.ForwardPaged(query, key, null!, output, default));
        Refused("cumulativeQueryLengths", () => MetalAttention.ForwardVariableLength(query, key, key, output, [0, 4], [0, 70]), "ends at 4");
        Refused(
            "sequences",
            () => MetalAttention.ForwardPaged(query, _device.Allocate<float>(3, 16, 2, 64), _device.Allocate<float>(3, 16, 2, 64), output, new PagedSequences([0, 5], [40], [0, 1, 3], 3)),
            "is block 3; the cache has blocks 0 to 2");
        Assert.Empty(_runtime.Submissions);
    }

    [Fact]
    public void Tensors_of_different_devices_are_refused()
    {
        using var otherRuntime = new RecordingRuntime { Device = _runtime.Device with { Name = "Another" } };
        var other = new MetalDevice(otherRuntime);
        using MetalTensor<float> here = _device.Allocate<float>(5, 8, 64), there = other.Allocate<float>(5, 8, 64), output = _device.Allocate<float>(5, 8, 64);
        Refused("key", () => MetalAttention.Forward(here, there, here, output), "key is a tensor of Another", "Recorder");
        Refused("output", () => MetalAttention.Forward(here, here, here, there), "Another");
        Refused("operands", () => MetalAttention.Forward(here, here, here, output, operands: new MetalOperands { Bias = there }), "Bias is a tensor of Another");
        Refused("output", () => MetalAttention.Merge(_device.Allocate<float>(2, 5, 8, 64), _device.Allocate<float>(2, 8, 5), there), "Another");
        Assert.Empty(_runtime.Submissions);
        Assert.Empty(otherRuntime.Submissions);
    }

    [Fact]
    public void A_cancelled_call_queues_nothing()
    {
        using MetalTensor<float> query = _device.Allocate<float>(5, 8, 64), output = _device.Allocate<float>(5, 8, 64);
        int[] lengths = [0, 5];
        var token = new CancellationToken(canceled: true);
        Assert.Throws<OperationCanceledException>(() => MetalAttention.Forward(query, query, query, output, cancellationToken: token));
        Assert.Throws<OperationCanceledException>(() => MetalAttention.ForwardVariableLength(query, query, query, output, lengths, lengths, cancellationToken: token));
        Assert.Empty(_runtime.Submissions);
        MetalAttention.Forward(query, query, query, output);
        Assert.NotEmpty(_runtime.Submissions);
    }

    [Fact]
    public void What_does_not_compile_leaves_nothing_queued_and_nothing_held()
    {
        MetalTensor<float> query = _device.Allocate<float>(5, 8, 64), output = _device.Allocate<float>(5, 8, 64);
        _runtime.PrepareFailure = new MetalException("no");
        Assert.Throws<MetalException>(() => MetalAttention.Forward(query, query, query, output));
        Assert.Empty(_runtime.Submissions);
        Assert.False(query.IsPending);
        query.Dispose();
        output.Dispose();
        _device.Close();
        Assert.Equal(0, _runtime.Living);
    }

    [Fact]
    public void Explaining_and_preparing_run_nothing()
    {
        var shape = new AttentionShape(2, 512, 1024, 8, 2, 64);
        var options = new AttentionOptions { Mask = AttentionMask.Causal };
        AttentionExplanation explained = MetalAttention.Explain<Half, Half>(_device, shape, options);
        Assert.Equal(("metal", "Recorder (Apple GPU family 9)", 0), (explained.Backend, explained.Device, explained.Threads));
        Assert.Null(explained.InstructionSet);
        Assert.Equal(Attention.Explain<Half, Half>(shape, options).FloatingPointOperations, explained.FloatingPointOperations);
        Assert.Equal(Attention.Explain<Half, Half>(shape, options).KeyValueBytes, explained.KeyValueBytes);
        Assert.True(explained.WorkItems > 0);
        Assert.Contains("device           Recorder (Apple GPU family 9)", explained.ToString(), StringComparison.Ordinal);
        Assert.DoesNotContain("instruction set", explained.ToString(), StringComparison.Ordinal);
        Assert.Empty(_runtime.Prepared);

        MetalAttention.Prepare<Half, Half>(_device, shape, options, OperandKinds.BooleanMask | OperandKinds.BiasFloat16 | OperandKinds.LogSumExp);
        KernelFunction[] prepared = [.. _runtime.Prepared];
        Assert.NotEmpty(prepared);
        Assert.Empty(_runtime.Submissions);

        // What was prepared is what such a call then needs, and a call without these operands needs others.
        using MetalTensor<Half> query = _device.Allocate<Half>(2, 512, 8, 64), output = _device.Allocate<Half>(2, 512, 8, 64), key = _device.Allocate<Half>(2, 1024, 2, 64);
        _runtime.Prepared.Clear();
        MetalAttention.Forward(
            query, key, key, output, options,
            new MetalOperands { BooleanMask = _device.Allocate<bool>(512, 1024), Bias = _device.Allocate<Half>(512, 1024), LogSumExp = _device.Allocate<float>(2, 8, 512) });
        Assert.Empty(_runtime.Prepared.Except(prepared));
        MetalAttention.Forward(query, key, key, output, options);
        Assert.NotEmpty(_runtime.Prepared.Except(prepared));

        MetalAttention.Prepare<float, Half>(_device, shape, [1, 700], [90, 700], blockSize: 16);
        Assert.Equal("decode", MetalAttention.Explain<float, Half>(_device, shape, [1], [90], blockSize: 16).Kernel);
        Refused("operands", () => MetalAttention.Prepare<Half, Half>(_device, shape, options, OperandKinds.BiasFloat16 | OperandKinds.BiasFloat32), "one bias");
    }

    [Fact]
    public void Calls_are_told_to_listeners()
    {
        var seen = new List<string>();
        using (var listener = new MeterListener())
        {
            listener.InstrumentPublished = static (instrument, self) =>
            {
                if (instrument.Name is "fusedattention.calls") self.EnableMeasurementEvents(instrument);
            };
            listener.SetMeasurementEventCallback<long>((_, value, tags, _) =>
            {
                string text = string.Join(' ', tags.ToArray().Select(static tag => $"{tag.Key}={tag.Value}"));
                if (text.Contains("metal", StringComparison.Ordinal)) lock (seen) seen.Add($"{value} {text}");
            });
            listener.Start();
            using MetalTensor<float> query = _device.Allocate<float>(1, 8, 64), output = _device.Allocate<float>(1, 8, 64);
            MetalAttention.Forward(query, query, query, output);
            _runtime.PrepareFailure = new MetalException("no");
            Assert.Throws<MetalException>(() => MetalAttention.Forward(query, query, query, output));
        }

        Assert.Contains("1 backend=metal kernel=decode", seen, StringComparer.Ordinal);
        Assert.Contains("1 backend=metal kernel=decode error.type=FusedAttention.MetalException", seen, StringComparer.Ordinal);
    }

    [Fact]
    public void Merging_queues_one_launch()
    {
        using MetalTensor<Half> parts = _device.Allocate<Half>(3, 2, 5, 8, 64);
        using MetalTensor<float> lses = _device.Allocate<float>(3, 2, 8, 5), lse = _device.Allocate<float>(2, 8, 5), output = _device.Allocate<float>(2, 5, 8, 64);
        MetalAttention.Merge(parts, lses, output, lse, [1, 2, 3, 4, 5, 6, 7, 8]);
        Assert.Equal("merge", Assert.Single(Assert.Single(_runtime.Submissions)).Function.Name);
        Assert.True(output.IsPending && lse.IsPending && parts.IsPending);
        Refused("sinkLogits", () => MetalAttention.Merge(parts, lses, output, lse, [1]), "8 heads");
        Refused("logSumExp", () => MetalAttention.Merge(parts, lses, output, lses.Slice(0..1, .., .., ..).Reshape(2, 8, 5)), "overlaps partialLogSumExps");
        Refused("output", () => MetalAttention.Merge(parts, lses, _device.Allocate<float>(2, 5, 8, 63)), "must be [2, 5, 8, 64]");
        Assert.Throws<ArgumentNullException>("output", () => MetalAttention.Merge<Half, Half>(parts, lses, null!));
        Assert.Single(_runtime.Submissions);
    }

    private static void Refused(string parameter, Action call, params string[] inMessage)
    {
        ArgumentException error = Assert.Throws<ArgumentException>(parameter, call);
        foreach (string part in inMessage) Assert.Contains(part, error.Message, StringComparison.Ordinal);
    }
}
