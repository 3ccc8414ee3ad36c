using System.Runtime.InteropServices;
using FusedAttention.Cuda.Kernels;
using FusedAttention.Cuda.Launching;
using FusedAttention.Cuda.Planning;
using FusedAttention.Cuda.Tests.Fakes;
using Xunit;

namespace FusedAttention.Cuda.Tests;

/// <summary>Block tables that lie on the device, on one that checks them by hand and computes nothing else.</summary>
[Collection(AloneDefinition.Name)]
public sealed unsafe class CudaBlockTableTests : IDisposable
{
    private const int Blocks = 8, BlockSize = 4, Heads = 2, Dim = 16;

    private readonly RecordingRuntime _runtime = new() { OnLaunch = Run, EndsAtOnce = true };
    private readonly CudaDevice _device;

    public CudaBlockTableTests() => _device = new(_runtime);

    public void Dispose() => _device.Close();

    /// <summary>What the attention kernels find is what they would find with the tables on the host.</summary>
    [Theory]
    [InlineData(null)]
    [InlineData(5)]
    public void Kernels_see_the_same_tables_as_from_the_host(int? window)
    {
        // What a window has passed, and what lies behind the context, may be anything.
        int[] queries = [0, 1, 3, 3], contexts = [14, 9, 0], tables = [5, 2, 7, 0, -1, 3, 1, 6, 99, 99, 99, 99, 99, 99, 99];
        if (window is not null) (tables[0], tables[1]) = (-1, 44);
        else tables[4] = 77;
        AttentionOptions options = new() { Mask = window is { } left ? AttentionMask.CausalWindow(left) : AttentionMask.Causal };
        using CudaTensor<Half> query = _device.Allocate<Half>(3, Heads, Dim), cache = _device.Allocate<Half>(Blocks, BlockSize, Heads, Dim), output = _device.Allocate<Half>(3, Heads, Dim);
        using CudaTensor<int> onDevice = _device.Allocate<int>(3, 5);
        onDevice.CopyFrom(tables);
        CudaAttention.ForwardPaged(query, cache, cache, output, new PagedSequences(queries, contexts, tables, 5), options);
        CudaAttention.ForwardPaged(query, cache, cache, output, new CudaPagedSequences(queries, contexts, onDevice), options);
        _device.Synchronize();

        // The call's objects are used again: the next call has its tables in the parameter, as ever.
        CudaAttention.Forward(query, query, query, output);
        Assert.Equal((ulong)CallReader.TablesBehindBlock, MemoryMarshal.Read<CallBlock>(_runtime.Streams[0].Operations[^1].Parameters).Tables);
        _runtime.Streams[0].Operations.RemoveAt(_runtime.Streams[0].Operations.Count - 1);
        StreamOperation[] launches = [.. _runtime.Streams[0].Operations.Where(static operation => operation.Action == StreamAction.Launch)];
        StreamOperation check = Assert.Single(launches, static launch => launch.Function == TablePlan.Function);
        StreamOperation[] others = [.. launches.Where(static launch => launch.Function != TablePlan.Function)];
        Assert.Equal(0, others.Length % 2);
        for (int i = 0; i < others.Length / 2; i++) Assert.Equal(TablesOf(others[i]), TablesOf(others[(others.Length / 2) + i]));
        Assert.True(Array.IndexOf(launches, check) < Array.IndexOf(launches, others[^1]));
        Assert.Equal((3u, 1u, 1u), check.Grid);

        // Sequences with the ids of the blocks that they need.
        int[] TablesOf(StreamOperation launch)
        {
            CallBlock block = MemoryMarshal.Read<CallBlock>(launch.Parameters);
            fixed (byte* parameters = launch.Parameters)
            {
                byte* first = block.Tables < CallBlock.LongParameterBytes ? parameters + block.Tables : RecordingRuntime.At(block.Tables);
                var found = new List<int>();
                for (int s = 0; s < contexts.Length; s++)
                {
                    long start = ((Devices.SequenceEntry*)(first + block.SequencesOffset))[s].BlockTableStart;
                    int begin = window is null || s == 2 ? 0 : (contexts[s] - (queries[s + 1] - queries[s]) - window.Value) / BlockSize;
                    for (int i = begin; i < (contexts[s] + BlockSize - 1) / BlockSize; i++) found.Add(((int*)(first + block.BlockTablesOffset))[start + i]);
                }

                return [.. found];
            }
        }
    }

    [Theory]
    [InlineData(-1)]
    [InlineData(8)]
    [InlineData(int.MinValue)]
    [InlineData(int.MaxValue)]
    public void A_bad_id_is_reported_once_by_whoever_waits_next(int id)
    {
        using CudaTensor<Half> query = _device.Allocate<Half>(2, Heads, Dim), cache = _device.Allocate<Half>(Blocks, BlockSize, Heads, Dim), output = _device.Allocate<Half>(2, Heads, Dim);
        using CudaTensor<int> tables = _device.Allocate<int>(2, 3);
        tables.CopyFrom([0, 1, 2, 3, id, 5]);
        Half[] result = new Half[2 * Heads * Dim];
        CudaAttention.ForwardPaged(query, cache, cache, output, new CudaPagedSequences([0, 1, 2], [12, 12], tables));
        string message = Assert.Throws<CudaException>(() => output.CopyTo(result)).Message;
        Assert.Equal(
            $"Block table of sequence 1 on the device, entry 1, was block {id}; the cache has blocks 0 to 7. The block was not read, and what the call wrote for that sequence is undefined.", message);
        output.CopyTo(result);
        CudaAttention.ForwardPaged(query, cache, cache, output, new CudaPagedSequences([0, 1, 2], [12, 12], tables));
        Assert.Throws<CudaException>(_device.Synchronize);
        CudaAttention.ForwardPaged(query, cache, cache, output, new CudaPagedSequences([0, 1, 2], [12, 4], tables));
        _device.Synchronize();
    }

    /// <summary>Somebody else's stream is not told, unless it waited for the results.</summary>
    [Fact]
    public void A_bad_id_is_reported_where_its_results_go()
    {
        using CudaStream stream = _device.CreateStream(), reader = _device.CreateStream(), stranger = _device.CreateStream();
        using CudaTensor<Half> query = _device.Allocate<Half>(1, Heads, Dim), cache = _device.Allocate<Half>(Blocks, BlockSize, Heads, Dim), output = _device.Allocate<Half>(1, Heads, Dim);
        using CudaTensor<int> tables = _device.Allocate<int>(1, 2);
        _runtime.EndsAtOnce = false;
        tables.CopyFrom([0, 8], stream);
        CudaAttention.ForwardPaged(query, cache, cache, output, new CudaPagedSequences([0, 1], [7], tables), stream: stream);
        stranger.Synchronize();
        Assert.Throws<CudaException>(() => output.CopyTo(new Half[Heads * Dim], reader));
        stream.Synchronize();
        CudaAttention.ForwardPaged(query, cache, cache, output, new CudaPagedSequences([0, 1], [7], tables), stream: stream);
        Assert.Throws<CudaException>(stream.Synchronize);
        CudaAttention.ForwardPaged(query, cache, cache, output, new CudaPagedSequences([0, 1], [7], tables), stream: stream);
        Assert.Throws<CudaException>(_device.Synchronize);
        stream.Synchronize();
    }

    /// <summary>More sequences than the parameter has room for, whose rows lie apart.</summary>
    [Fact]
    public void Many_sequences_have_their_ranges_staged()
    {
        const int Sequences = 700;
        Assert.True(Sequences > TablePlan.MostInlineRanges);
        using CudaTensor<Half> query = _device.Allocate<Half>(Sequences, Heads, Dim), cache = _device.Allocate<Half>(Blocks, BlockSize, Heads, Dim), output = _device.Allocate<Half>(Sequences, Heads, Dim);
        using CudaTensor<int> wide = _device.Allocate<int>(Sequences, 10);
        int[] entries = [.. Enumerable.Range(0, Sequences * 10).Select(static i => i % 10 < 3 ? i % 7 : -5)];
        wide.CopyFrom(entries);
        int[] queries = [.. Enumerable.Range(0, Sequences + 1)], contexts = [.. Enumerable.Repeat(12, Sequences)];
        CudaAttention.ForwardPaged(query, cache, cache, output, new CudaPagedSequences(queries, contexts, wide.Slice(.., ..3)));
        _device.Synchronize();

        entries[(699 * 10) + 2] = 8;
        wide.CopyFrom(entries);
        CudaAttention.ForwardPaged(query, cache, cache, output, new CudaPagedSequences(queries, contexts, wide.Slice(.., ..3)));
        Assert.Contains("sequence 699 on the device, entry 2", Assert.Throws<CudaException>(_device.Synchronize).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Tables_that_do_not_fit_are_refused()
    {
        using CudaTensor<Half> query = _device.Allocate<Half>(2, Heads, Dim), cache = _device.Allocate<Half>(Blocks, BlockSize, Heads, Dim), output = _device.Allocate<Half>(2, Heads, Dim);
        using CudaTensor<Half> empty = _device.Allocate<Half>(0, BlockSize, Heads, Dim);
        using CudaTensor<int> tables = _device.Allocate<int>(2, 4), flat = _device.Allocate<int>(8);
        Refused("BlockTables is [8] of Int32; expected [2, max blocks per sequence]", flat, cache, [3, 3]);
        Refused("BlockTables is [4, 2] of Int32; expected [2, max blocks per sequence]", tables.Reshape(4, 2), cache, [3, 3]);
        Refused("expected [2, max blocks per sequence] with the entries of a row side by side", tables.View(0, [2, 2], [4, 2]), cache, [3, 3]);
        Refused("ContextLengths[1] is 17; expected 0 to 16, the 4 blocks of 4", tables, cache, [3, 17]);
        Refused("Sequence 0 has 3 keys, but the cache has no blocks.", tables, empty, [3, 3]);
        Assert.Throws<ArgumentNullException>("BlockTables", () => CudaAttention.ForwardPaged(query, cache, cache, output, new CudaPagedSequences([0, 1, 2], [3, 3], null!)));
        Assert.DoesNotContain(_runtime.Streams.SelectMany(static stream => stream.Operations), static operation => operation.Action == StreamAction.Launch);

        void Refused(string inMessage, CudaTensor<int> given, CudaTensor<Half> keys, int[] contexts) => Assert.Contains(
            inMessage, Assert.Throws<ArgumentException>("sequences", () => CudaAttention.ForwardPaged(query, keys, keys, output, new CudaPagedSequences([0, 1, 2], contexts, given))).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Warm_calls_allocate_nothing()
    {
        var runtime = new RecordingRuntime { Records = false, EndsAtOnce = true };
        CudaDevice device = new(runtime);
        using CudaTensor<Half> query = device.Allocate<Half>(2, Heads, Dim), cache = device.Allocate<Half>(Blocks, BlockSize, Heads, Dim), output = device.Allocate<Half>(2, Heads, Dim);
        using CudaTensor<int> tables = device.Allocate<int>(2, 3);
        Allocations.AssertNone(() => CudaAttention.ForwardPaged(query, cache, cache, output, new CudaPagedSequences([0, 1, 2], [12, 7], tables)));
        device.Close();
    }

    /// <summary>The tables wait for whoever writes them on another stream, and are not given back before they are read.</summary>
    [Fact]
    public void Tables_are_in_the_order_of_streams()
    {
        _runtime.EndsAtOnce = false;
        using CudaStream stream = _device.CreateStream();
        using CudaTensor<Half> query = _device.Allocate<Half>(1, Heads, Dim), cache = _device.Allocate<Half>(Blocks, BlockSize, Heads, Dim), output = _device.Allocate<Half>(1, Heads, Dim);
        CudaTensor<int> tables = _device.Allocate<int>(1, 2);
        tables.CopyFrom([3, 4], stream);
        CudaAttention.ForwardPaged(query, cache, cache, output, new CudaPagedSequences([0, 1], [7], tables));
        Assert.Equal(StreamAction.WaitFor, _runtime.Streams[1].Operations[0].Action);
        int before = _runtime.Living;
        tables.Dispose();
        Assert.Equal(before, _runtime.Living);
        _device.Synchronize();
        Assert.Equal(before - 1, _runtime.Living);
    }

    private static void Run(KernelFunction function, uint sequences, byte[] parameters)
    {
        if (function != TablePlan.Function) return;
        TableBlock block = MemoryMarshal.Read<TableBlock>(parameters);
        fixed (byte* first = parameters)
        {
            var ranges = (TableRange*)(block.Ranges == 0 ? first + TableBlock.RangesBehindBlock : RecordingRuntime.At(block.Ranges));
            for (uint s = 0; s < sequences; s++)
            {
                for (int i = ranges[s].First; i < ranges[s].End; i++)
                {
                    int id = ((int*)(RecordingRuntime.At(block.Tables) + (s * block.RowBytes)))[i];
                    bool isBlock = id >= 0 && id < block.Blocks;
                    ((int*)RecordingRuntime.At(block.Checked))[ranges[s].Shift + i] = isBlock ? id : 0;
                    if (!isBlock) *(TableFault*)RecordingRuntime.At(block.Fault) = new() { Sequence = (int)s, Entry = i, Id = id, Blocks = block.Blocks };
                }
            }
        }
    }
}
