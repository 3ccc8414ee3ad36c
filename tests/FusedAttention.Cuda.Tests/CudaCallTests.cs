using System.Diagnostics.Metrics;
using System.Numerics.Tensors;
using System.Runtime.InteropServices;
using FusedAttention.Cuda.Kernels;
using FusedAttention.Cuda.Launching;
using FusedAttention.Cuda.Planning;
using FusedAttention.Cuda.Tests.Fakes;
using Xunit;

namespace FusedAttention.Cuda.Tests;

/// <summary>What calls check, queue, hold and tell, on a device that computes nothing.</summary>
public sealed unsafe class CudaCallTests : IDisposable
{
    private readonly RecordingRuntime _runtime = new();
    private readonly CudaDevice _device;

    public CudaCallTests() => _device = new(_runtime);

    private IEnumerable<StreamOperation> Operations => _runtime.Streams.SelectMany(static stream => stream.Operations);

    private StreamOperation[] Launches => [.. Operations.Where(static operation => operation.Action == StreamAction.Launch)];

    public void Dispose() => _device.Close();

    [Fact]
    public void A_call_queues_its_work_and_returns()
    {
        using CudaTensor<Half> query = _device.Allocate<Half>(2, 5, 8, 64), output = _device.Allocate<Half>(2, 5, 8, 64);
        using CudaTensor<Half> key = _device.Allocate<Half>(2, 70, 2, 64), value = _device.Allocate<Half>(2, 70, 2, 64);
        using CudaTensor<float> logSumExp = _device.Allocate<float>(2, 8, 5);
        using CudaTensor<bool> mask = _device.Allocate<bool>(5, 70);
        using CudaTensor<BFloat16> bias = _device.Allocate<BFloat16>(8, 1, 70);
        CudaAttention.Forward(query, key, value, output, operands: new CudaOperands { LogSumExp = logSumExp, BooleanMask = mask, Bias = bias });
        StreamOperation launch = Assert.Single(Launches);
        Assert.Empty(_runtime.Streams[0].Waits);
        foreach (CudaTensor tensor in (CudaTensor[])[query, key, value, output, logSumExp, mask, bias]) Assert.True(tensor.IsPending);
        Assert.Contains(launch.Function!, _runtime.Prepared);
        CallBlock block = MemoryMarshal.Read<CallBlock>(launch.Parameters);
        Assert.Equal(
            [query.Address, key.Address, value.Address, output.Address, mask.Address, bias.Address, logSumExp.Address],
            [block.Query, block.Key, block.Value, block.Output, block.Mask, block.Bias, block.LogSumExp]);
        output.CopyTo(new Half[2 * 5 * 8 * 64]);
        Assert.Equal([2], _runtime.Streams[0].Waits);
    }

    [Fact]
    public void A_call_goes_to_the_stream_that_it_names()
    {
        using CudaStream stream = _device.CreateStream();
        using CudaTensor<float> query = _device.Allocate<float>(5, 8, 64), key = _device.Allocate<float>(70, 2, 64), output = _device.Allocate<float>(5, 8, 64), next = _device.Allocate<float>(5, 8, 64);
        CudaAttention.Forward(query, key, key, output, stream: stream);
        Assert.Equal([StreamAction.Launch], Assert.Single(_runtime.Streams).Operations.Select(static operation => operation.Action));

        // What another stream makes of it waits on the device.
        CudaAttention.Forward(output, key, key, next);
        Assert.Equal([StreamAction.WaitFor, StreamAction.Launch], _runtime.Streams[1].Operations.Select(static operation => operation.Action));
        Assert.All(_runtime.Streams, static each => Assert.Empty(each.Waits));
    }

    /// <summary>A graph has the tables of its calls for good, and counters of its own.</summary>
    [Fact]
    public void A_captured_call_keeps_its_tables_and_clears_its_counters()
    {
        using CudaStream stream = _device.CreateStream();
        using CudaTensor<Half> query = _device.Allocate<Half>(1, 8, 64), key = _device.Allocate<Half>(5000, 2, 64), output = _device.Allocate<Half>(1, 8, 64);
        _runtime.Streams[0].IsCapturing = true;
        CudaAttention.Forward(query, key, key, output, stream: stream);
        Assert.Equal([StreamAction.Clear, StreamAction.Launch], _runtime.Streams[0].Operations.Select(static operation => operation.Action));
        Assert.False(output.IsPending);
        _runtime.Streams[0].IsCapturing = false;
        CudaAttention.Forward(query, key, key, output, stream: stream);
        ulong[] counters = [.. Launches.Select(static launch => MemoryMarshal.Read<CallBlock>(launch.Parameters).Counters)];
        Assert.Equal(2, counters.Distinct().Count());
    }

    [Fact]
    public void Tensors_may_be_disposed_as_soon_as_a_call_has_returned()
    {
        CudaTensor<float> query = _device.Allocate<float>(5, 8, 64), key = _device.Allocate<float>(70, 2, 64), output = _device.Allocate<float>(5, 8, 64);
        CudaAttention.Forward(query, key, key, output);
        int before = _runtime.Living;
        foreach (CudaTensor<float> tensor in (CudaTensor<float>[])[query, key, output]) tensor.Dispose();
        Assert.Equal(before, _runtime.Living);
        _device.Synchronize();
        Assert.Equal(before - 3, _runtime.Living);
        Assert.Throws<ObjectDisposedException>(() => CudaAttention.Forward(query, key, key, output));
    }

    [Fact]
    public void A_view_is_bound_where_it_begins()
    {
        using CudaTensor<float> packed = _device.Allocate<float>(7, 3, 8, 64), output = _device.Allocate<float>(7, 8, 64);
        CudaTensor<float> Part(int i) => packed.Slice(.., i..(i + 1), .., ..).View(0, [7, 8, 64], [3 * 8 * 64, 64, 1]);
        CudaAttention.Forward(Part(0), Part(1), Part(2), output);
        CallBlock block = MemoryMarshal.Read<CallBlock>(Assert.Single(Launches).Parameters);
        Assert.Equal<ulong>([0ul, 8 * 64 * 4, 2 * 8 * 64 * 4], [block.Query - packed.Address, block.Key - packed.Address, block.Value - packed.Address]);
    }

    /// <summary>By the address: memory of the caller's may begin anywhere.</summary>
    [Fact]
    public void Tensors_that_begin_between_vectors_get_the_plain_kernel()
    {
        using CudaTensor<Half> memory = _device.Allocate<Half>(40 * 8 * 64 + 8), output = _device.Allocate<Half>(40, 8, 64);
        using CudaTensor<Half> at8 = _device.Wrap<Half>(memory.DevicePointer + 16, 40, 8, 64), at4 = _device.Wrap<Half>(memory.DevicePointer + 8, 40, 8, 64);
        CudaAttention.Forward(at8, at8, at8, output);
        CudaAttention.Forward(at8, at4, at4, output);
        CudaAttention.Forward(output, output, output, at4);
        Assert.Equal(["prefill_wgmma", "plain", "plain"], Launches.Select(static launch => launch.Function!.EntryPoint), StringComparer.Ordinal);
    }

    [Fact]
    public void Calls_with_nothing_to_do_queue_nothing()
    {
        using CudaTensor<float> none = _device.Allocate<float>(0, 8, 64), key = _device.Allocate<float>(5, 8, 64);
        CudaAttention.Forward(none, key, key, none.Slice(.., .., ..));
        CudaAttention.ForwardVariableLength(none, key, key, none.Slice(.., .., ..), [0, 0], [0, 5]);
        Assert.Empty(Operations);
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
            ArgumentException actual = Assert.Throws<ArgumentException>(() => CudaAttention.Forward(
                _device.Allocate<float>(query), _device.Allocate<float>(key), _device.Allocate<float>(value), _device.Allocate<float>(output), options));
            Assert.Equal((expected.Message, expected.ParamName), (actual.Message, actual.ParamName));
            Assert.Empty(Operations);
        }

        static float[] New(nint[] lengths) => new float[lengths.Aggregate((a, b) => a * b)];
    }

    [Fact]
    public void Operands_types_and_overlaps_are_checked_too()
    {
        using CudaTensor<float> query = _device.Allocate<float>(5, 8, 64), key = _device.Allocate<float>(70, 2, 64), output = _device.Allocate<float>(5, 8, 64);
        using CudaTensor<double> doubles = _device.Allocate<double>(5, 8, 64);
        using CudaTensor<Half> halves = _device.Allocate<Half>(5, 8, 64);
        Refused("query", () => CudaAttention.Forward(doubles, doubles, doubles, doubles), "Double");
        Refused("key", () => CudaAttention.Forward(halves, key, key, halves), "Float32 under a query of Float16");
        Refused("output", () => CudaAttention.Forward(query, key, key, query), "overlaps query");
        Refused("output", () => CudaAttention.Forward(query, key, key, key.View(0, [5, 8, 64], [64, 0, 1])), "overlaps itself");
        Refused("operands", () => CudaAttention.Forward(query, key, key, output, operands: new CudaOperands { BooleanMask = _device.Allocate<bool>(6, 70) }), "BooleanMask has shape [6, 70]");
        Refused("operands", () => CudaAttention.Forward(query, key, key, output, operands: new CudaOperands { Bias = doubles }), "Bias has elements of type Double");
        Refused("operands", () => CudaAttention.Forward(query, key, key, output, operands: new CudaOperands { LogSumExp = _device.Allocate<float>(5, 8) }), "expected [8, 5]");
        Refused("operands", () => CudaAttention.Forward(query, key, key, output, operands: new CudaOperands { KeyLengths = [1, 2] }), "KeyLengths has 2 entries");
        Refused("operands", () => CudaAttention.Forward(query, key, key, output, operands: new CudaOperands { LogSumExp = output.View(0, [8, 5], [5, 1]) }), "overlaps output");
        Assert.Throws<ArgumentNullException>("value", () => CudaAttention.Forward(query, key, null!, output));
        Assert.Throws<ArgumentNullException>("valueCache", () => CudaAttention.ForwardPaged(query, key, null!, output, default(PagedSequences)));
        Refused("cumulativeQueryLengths", () => CudaAttention.ForwardVariableLength(query, key, key, output, [0, 4], [0, 70]), "ends at 4");
        Refused(
            "sequences",
            () => CudaAttention.ForwardPaged(query, _device.Allocate<float>(3, 16, 2, 64), _device.Allocate<float>(3, 16, 2, 64), output, new PagedSequences([0, 5], [40], [0, 1, 3], 3)),
            "is block 3; the cache has blocks 0 to 2");
        Assert.Empty(Operations);
    }

    [Fact]
    public void Tensors_of_different_devices_are_refused()
    {
        using var otherRuntime = new RecordingRuntime { Device = _runtime.Device with { Name = "Another" } };
        var other = new CudaDevice(otherRuntime);
        using CudaTensor<float> here = _device.Allocate<float>(5, 8, 64), there = other.Allocate<float>(5, 8, 64), output = _device.Allocate<float>(5, 8, 64);
        Refused("key", () => CudaAttention.Forward(here, there, here, output), "key is a tensor of Another", "Recorder");
        Refused("output", () => CudaAttention.Forward(here, here, here, there), "Another");
        Refused("operands", () => CudaAttention.Forward(here, here, here, output, operands: new CudaOperands { Bias = there }), "Bias is a tensor of Another");
        using CudaStream elsewhere = other.CreateStream();
        Refused("stream", () => CudaAttention.Forward(here, here, here, output, stream: elsewhere), "Another");
        Refused("output", () => CudaAttention.Merge(_device.Allocate<float>(2, 5, 8, 64), _device.Allocate<float>(2, 8, 5), there), "Another");
        Assert.Empty(Operations);
        Assert.Empty(Assert.Single(otherRuntime.Streams).Operations);
    }

    [Fact]
    public void A_cancelled_call_queues_nothing()
    {
        using CudaTensor<float> query = _device.Allocate<float>(5, 8, 64), output = _device.Allocate<float>(5, 8, 64);
        int[] lengths = [0, 5];
        var token = new CancellationToken(canceled: true);
        Assert.Throws<OperationCanceledException>(() => CudaAttention.Forward(query, query, query, output, cancellationToken: token));
        Assert.Throws<OperationCanceledException>(() => CudaAttention.ForwardVariableLength(query, query, query, output, lengths, lengths, cancellationToken: token));
        Assert.Empty(Operations);
        CudaAttention.Forward(query, query, query, output);
        Assert.NotEmpty(Operations);
    }

    [Fact]
    public void What_does_not_load_leaves_nothing_queued_and_nothing_held()
    {
        CudaTensor<float> query = _device.Allocate<float>(5, 8, 64), output = _device.Allocate<float>(5, 8, 64);
        _runtime.PrepareFailure = new CudaException("no");
        Assert.Throws<CudaException>(() => CudaAttention.Forward(query, query, query, output));
        Assert.Empty(Operations);
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
        AttentionExplanation explained = CudaAttention.Explain<Half, Half>(_device, shape, options);
        Assert.Equal(("cuda", "Recorder (compute capability 9.0, device 0)", 0), (explained.Backend, explained.Device, explained.Threads));
        Assert.Null(explained.InstructionSet);
        Assert.Equal(Attention.Explain<Half, Half>(shape, options).FloatingPointOperations, explained.FloatingPointOperations);
        Assert.Equal(Attention.Explain<Half, Half>(shape, options).KeyValueBytes, explained.KeyValueBytes);
        Assert.True(explained.WorkItems > 0);
        Assert.Contains("device           Recorder (compute capability 9.0, device 0)", explained.ToString(), StringComparison.Ordinal);
        Assert.DoesNotContain("instruction set", explained.ToString(), StringComparison.Ordinal);
        Assert.Empty(_runtime.Prepared);

        CudaAttention.Prepare<Half, Half>(_device, shape, options, OperandKinds.BooleanMask | OperandKinds.BiasFloat16 | OperandKinds.LogSumExp);
        KernelFunction[] prepared = [.. _runtime.Prepared];
        Assert.NotEmpty(prepared);
        Assert.Empty(Operations);

        // What was prepared is what such a call then needs, and a call without these operands needs others.
        using CudaTensor<Half> query = _device.Allocate<Half>(2, 512, 8, 64), output = _device.Allocate<Half>(2, 512, 8, 64), key = _device.Allocate<Half>(2, 1024, 2, 64);
        _runtime.Prepared.Clear();
        CudaAttention.Forward(
            query, key, key, output, options,
            new CudaOperands { BooleanMask = _device.Allocate<bool>(512, 1024), Bias = _device.Allocate<Half>(512, 1024), LogSumExp = _device.Allocate<float>(2, 8, 512) });
        Assert.Empty(_runtime.Prepared.Except(prepared));
        CudaAttention.Forward(query, key, key, output, options);
        Assert.NotEmpty(_runtime.Prepared.Except(prepared));

        CudaAttention.Prepare<float, Half>(_device, shape, [1, 700], [90, 700], blockSize: 16);
        Assert.Equal("plain", CudaAttention.Explain<float, Half>(_device, shape, [1], [90], blockSize: 16).Kernel);
        Refused("operands", () => CudaAttention.Prepare<Half, Half>(_device, shape, options, OperandKinds.BiasFloat16 | OperandKinds.BiasFloat32), "one bias");
        Refused("operands", () => CudaAttention.Prepare<Half, Half>(_device, shape, options, OperandKinds.BiasOfKeys), "expected a type of the bias beside BiasOfKeys");
    }

    /// <summary>Biases that queries share are another kernel, which is prepared by its own name.</summary>
    [Fact]
    public void A_bias_of_keys_is_prepared_as_such()
    {
        AttentionShape shape = new(2, 512, 1024, 8, 2, 64);
        using CudaTensor<Half> query = _device.Allocate<Half>(2, 512, 8, 64), output = _device.Allocate<Half>(2, 512, 8, 64), key = _device.Allocate<Half>(2, 1024, 2, 64), bias = _device.Allocate<Half>(2, 1, 1, 1024);
        CudaAttention.Prepare<Half, Half>(_device, shape, null, OperandKinds.BiasFloat16);
        KernelFunction[] ofRows = [.. _runtime.Prepared];
        CudaAttention.Prepare<Half, Half>(_device, shape, null, OperandKinds.BiasFloat16 | OperandKinds.BiasOfKeys);
        KernelFunction[] prepared = [.. _runtime.Prepared];
        Assert.NotEmpty(prepared.Except(ofRows));
        _runtime.Prepared.Clear();
        CudaAttention.Forward(query, key, key, output, null, new CudaOperands { Bias = bias });
        Assert.NotEmpty(_runtime.Prepared);
        Assert.Empty(_runtime.Prepared.Except(prepared));
        Assert.NotEmpty(_runtime.Prepared.Except(ofRows));
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
                if (text.Contains("cuda", StringComparison.Ordinal)) lock (seen) seen.Add($"{value} {text}");
            });
            listener.Start();
            using CudaTensor<float> query = _device.Allocate<float>(1, 8, 64), output = _device.Allocate<float>(1, 8, 64);
            CudaAttention.Forward(query, query, query, output);
            _runtime.PrepareFailure = new CudaException("no");
            Assert.Throws<CudaException>(() => CudaAttention.Forward(query, query, query, output));
        }

        Assert.Contains("1 backend=cuda kernel=plain", seen, StringComparer.Ordinal);
        Assert.Contains("1 backend=cuda kernel=plain error.type=FusedAttention.CudaException", seen, StringComparer.Ordinal);
    }

    [Fact]
    public void Merging_queues_one_launch()
    {
        using CudaTensor<Half> parts = _device.Allocate<Half>(3, 2, 5, 8, 64);
        using CudaTensor<float> lses = _device.Allocate<float>(3, 2, 8, 5), lse = _device.Allocate<float>(2, 8, 5), output = _device.Allocate<float>(2, 5, 8, 64);
        CudaAttention.Merge(parts, lses, output, lse, [1, 2, 3, 4, 5, 6, 7, 8]);
        StreamOperation launch = Assert.Single(Operations);
        Assert.Equal((MergePlan.Function(AttentionElementType.Float16, AttentionElementType.Float32), 2 * 5 * 8 / 4), (launch.Function, (int)launch.Grid.X));
        MergeBlock block = MemoryMarshal.Read<MergeBlock>(launch.Parameters);
        Assert.Equal<ulong>([parts.Address, lses.Address, output.Address, lse.Address, 0], [block.Partials, block.PartialLogSumExps, block.Output, block.LogSumExp, block.SinkLogits]);
        Assert.Equal([1, 2, 3, 4, 5, 6, 7, 8], MemoryMarshal.Cast<byte, float>(launch.Parameters.AsSpan(MergeBlock.SinksBehindBlock))[..8].ToArray());
        Assert.True(output.IsPending && lse.IsPending && parts.IsPending);
        Refused("sinkLogits", () => CudaAttention.Merge(parts, lses, output, lse, [1]), "8 heads");
        Refused("logSumExp", () => CudaAttention.Merge(parts, lses, output, lses.Slice(0..1, .., .., ..).Reshape(2, 8, 5)), "overlaps partialLogSumExps");
        Refused("output", () => CudaAttention.Merge(parts, lses, _device.Allocate<float>(2, 5, 8, 63)), "must be [2, 5, 8, 64]");
        Assert.Throws<ArgumentNullException>("output", () => CudaAttention.Merge<Half, Half>(parts, lses, null!));
        Assert.Single(Operations);
    }

    [Fact]
    public void Sinks_of_many_heads_are_staged()
    {
        const int Heads = 1000;
        using CudaTensor<float> parts = _device.Allocate<float>(2, 1, Heads, 8), lses = _device.Allocate<float>(2, Heads, 1), output = _device.Allocate<float>(1, Heads, 8);
        CudaAttention.Merge(parts, lses, output, sinkLogits: [.. Enumerable.Range(0, Heads).Select(static i => (float)i)]);
        Assert.Equal([StreamAction.CopyToDevice, StreamAction.Launch], Operations.Select(static operation => operation.Action));
        MergeBlock block = MemoryMarshal.Read<MergeBlock>(Launches[0].Parameters);
        Assert.Equal((0ul, 1, 999f), (block.LogSumExp, block.HasSinks, ((float*)RecordingRuntime.At(block.SinkLogits))[999]));
    }

    private static void Refused(string parameter, Action call, params string[] inMessage)
    {
        ArgumentException error = Assert.Throws<ArgumentException>(parameter, call);
        foreach (string part in inMessage) Assert.Contains(part, error.Message, StringComparison.Ordinal);
    }
}
