using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using FusedAttention.Cuda.Kernels;
using FusedAttention.Cuda.Launching;
using FusedAttention.Cuda.Planning;
using FusedAttention.Cuda.Tests.Fakes;
using FusedAttention.Devices;
using Xunit;

namespace FusedAttention.Cuda.Tests.Planning;

/// <summary>The parameter and the tables that a kernel gets, as it finds them.</summary>
public sealed unsafe class CallBindingTests : IDisposable
{
    private readonly RecordingRuntime _runtime = new();
    private readonly CudaDevice _device;

    public CallBindingTests() => _device = new(_runtime);

    public void Dispose() => _device.Close();

    [Fact]
    public void Blocks_end_before_what_travels_behind_them()
    {
        Assert.InRange(CallReader.TablesBehindBlock, Unsafe.SizeOf<CallBlock>(), Unsafe.SizeOf<CallBlock>() + 15);
        Assert.InRange(CacheBlock.SlotsBehindBlock, Unsafe.SizeOf<CacheBlock>(), Unsafe.SizeOf<CacheBlock>() + 15);
        Assert.InRange(MergeBlock.SinksBehindBlock, Unsafe.SizeOf<MergeBlock>(), Unsafe.SizeOf<MergeBlock>() + 15);
        Assert.Equal((32, 80), (Unsafe.SizeOf<WorkItem>(), Unsafe.SizeOf<SequenceEntry>()));
    }

    /// <summary>Few sequences: one launch and nothing else. Many: their tables are copied first. Kernels find the same in both.</summary>
    [Theory]
    [InlineData(5, false)]
    [InlineData(64, false)]
    [InlineData(90, true)]
    public void Kernels_find_their_tables(int sequences, bool isStaged)
    {
        const int Heads = 8, KeyValueHeads = 2, Dim = 64, Blocks = 300, Keys = 1000;
        int[] cumulative = [.. Enumerable.Range(0, sequences + 1)], contexts = [.. Enumerable.Repeat(Keys, sequences)];
        int[] tables = [.. Enumerable.Range(0, sequences * 63).Select(static i => i * 7 % Blocks)];
        using CudaTensor<Half> query = _device.Allocate<Half>(sequences, Heads, Dim), output = _device.Allocate<Half>(sequences, Heads, Dim);
        using CudaTensor<Half> keys = _device.Allocate<Half>(Blocks, 16, KeyValueHeads, Dim), values = _device.Allocate<Half>(Blocks, 16, KeyValueHeads, Dim);
        _device.DecodeItems = ItemKeys.Split;
        var options = new AttentionOptions { Mask = AttentionMask.Causal, SinkLogits = [.. Enumerable.Range(0, Heads).Select(static i => (float)i)], SoftCap = 30 };
        CudaAttention.ForwardPaged(query, keys, values, output, new PagedSequences(cumulative, contexts, tables, 63), options);

        StreamOperation[] operations = [.. _runtime.Streams[0].Operations];
        StreamAction[] expected = isStaged ? [StreamAction.Clear, StreamAction.CopyToDevice, StreamAction.Launch] : [StreamAction.Clear, StreamAction.Launch];
        Assert.Equal(expected, operations.Select(static operation => operation.Action));
        StreamOperation launch = operations[^1];
        Assert.Equal(((uint)(sequences * 2 * KeyValueHeads), 1u, 1u), launch.Grid);
        Assert.Equal(sequences == 64 ? CallBlock.LongParameterBytes : CallBlock.MostParameterBytes, launch.Parameters.Length);
        CallBlock block = MemoryMarshal.Read<CallBlock>(launch.Parameters);
        Assert.Equal(isStaged ? null : sequences > 5 ? CallBlock.MostParameterBytes : CallReader.TablesBehindBlock, block.Tables < CallBlock.LongParameterBytes ? (int?)block.Tables : null);
        Assert.Equal((30f, 16, Heads / KeyValueHeads), (block.Attention.SoftCap, block.Attention.BlockSize, block.Attention.Group));
        fixed (byte* parameters = launch.Parameters)
        {
            byte* first = isStaged ? RecordingRuntime.At(block.Tables) : parameters + block.Tables;
            var entries = (SequenceEntry*)(first + block.SequencesOffset);
            var items = (WorkItem*)(first + block.ItemsOffset);
            int* blocks = (int*)(first + block.BlockTablesOffset);
            float* sinks = (float*)(first + block.SinkLogitsOffset);
            for (int s = 0; s < sequences; s++)
            {
                Assert.Equal((1, Keys, (long)Keys - 1), (entries[s].QueryLength, entries[s].KeyLength, entries[s].QueryOffset));
                for (int i = 0; i < 63; i++) Assert.Equal(tables[(s * 63) + i], blocks[entries[s].BlockTableStart + i]);
                for (int split = 0; split < 2; split++)
                {
                    WorkItem item = items[(2 * s) + split];
                    Assert.Equal((s, 0, 4, split * 512, split == 0 ? 512 : Keys), (item.Sequence, item.FirstRow, item.EndRow, item.FirstKey, item.EndKey));
                    Assert.Equal((split, WorkItem.Folded(2, 11, 9), ((2 * s) + split) * KeyValueHeads * 4), (item.Split, item.Splits, item.Partial));
                }
            }

            for (int head = 0; head < Heads; head++) Assert.Equal(head, sinks[head]);
        }

        // Partial results lie behind the tables, where the call has memory, and counters are zero.
        long rows = sequences * 2 * KeyValueHeads * 4;
        Assert.True(block.PartialStatistics >= block.PartialOutputs + (ulong)(rows * Dim * sizeof(float)));
        new Span<byte>(RecordingRuntime.At(block.PartialOutputs), (int)(rows * Dim * sizeof(float))).Fill(1);
        new Span<byte>(RecordingRuntime.At(block.PartialStatistics), (int)(rows * 2 * sizeof(float))).Fill(1);
        Assert.Equal(-1, new ReadOnlySpan<int>(RecordingRuntime.At(block.Counters), (int)rows).IndexOfAnyExcept(0));
    }

    [Fact]
    public void Each_launch_has_its_own_items()
    {
        using CudaTensor<Half> query = _device.Allocate<Half>(101, 8, 64), output = _device.Allocate<Half>(101, 8, 64), key = _device.Allocate<Half>(200, 2, 64);
        CudaAttention.ForwardVariableLength(query, key, key, output, [0, 1, 101], [0, 100, 200]);
        StreamOperation[] launches = [.. _runtime.Streams[0].Operations.Where(static operation => operation.Function is not null)];
        Assert.Equal(["prefill_wgmma", "decode_tma"], launches.Select(static launch => launch.Function!.EntryPoint), StringComparer.Ordinal);
        int[] sequences = [.. launches.Select(static launch => MemoryMarshal.Read<WorkItem>(launch.Parameters.AsSpan(CallReader.TablesBehindBlock + MemoryMarshal.Read<CallBlock>(launch.Parameters).ItemsOffset)).Sequence)];
        Assert.Equal([1, 0], sequences);
        // 400 rows in items of 192, and the query of the other sequence, for two heads each.
        Assert.Equal([(6u, 1u, 1u), (2u, 1u, 1u)], launches.Select(static launch => launch.Grid));
        Assert.Equal(0ul, MemoryMarshal.Read<CallBlock>(launches[1].Parameters).PartialOutputs);
    }

    /// <summary>A prefill by warpgroups has its tensors' maps at the end of the parameter, one block a multiprocessor at most, and two words for handing out work that are zero.</summary>
    [Theory]
    [InlineData(1, 8u)]
    [InlineData(40, 132u)]
    public void Warpgroups_find_their_tensors(int batch, uint blocks)
    {
        const int Heads = 8, KeyValueHeads = 2, Dim = 128, Queries = 100, Keys = 300;
        _device.PrefillForm = PrefillForm.Warpgroups;
        using CudaTensor<Half> query = _device.Allocate<Half>(batch, Queries, Heads, Dim), output = _device.Allocate<Half>(batch, Queries, Heads, Dim);
        using CudaTensor<Half> key = _device.Allocate<Half>(batch, Keys, KeyValueHeads, Dim), value = _device.Allocate<Half>(batch, Keys, KeyValueHeads, Dim);
        CudaAttention.Forward(query, key, value, output);

        StreamOperation launch = _runtime.Streams[0].Operations[^1];
        Assert.Equal("prefill_wgmma", launch.Function!.EntryPoint);
        Assert.Equal((blocks, 1u, 1u), launch.Grid);
        CallBlock call = MemoryMarshal.Read<CallBlock>(launch.Parameters);
        WarpgroupBlock block = MemoryMarshal.Read<WarpgroupBlock>(launch.Parameters.AsSpan(WarpgroupBlock.Offset));
        Assert.Equal(new(call.Query, false, Dim, Heads, Queries, batch, Dim * 2, Heads * Dim * 2, Map(block.QueryMap).Stride3, 64, 4, 32), Map(block.QueryMap));
        Assert.Equal(new(call.Key, false, Dim, Keys, KeyValueHeads, batch, KeyValueHeads * Dim * 2, Dim * 2, Map(block.KeyMap).Stride3, 64, 176, 1), Map(block.KeyMap));
        Assert.Equal((call.Value, Keys, 128, (4 * batch)), (Map(block.ValueMap).Address, block.ValueTokens, block.QueryRows, block.Items));
        if (batch > 1) Assert.Equal((Queries * Heads * Dim * 2L, Keys * KeyValueHeads * Dim * 2L), (Map(block.QueryMap).Stride3, Map(block.KeyMap).Stride3));
        Assert.Equal(0L, *(long*)RecordingRuntime.At(block.Scheduler));
        Assert.True(block.Scheduler % sizeof(long) == 0 && WarpgroupBlock.Offset % 64 == 0);
        Assert.InRange(Unsafe.SizeOf<WarpgroupBlock>(), 1, WarpgroupBlock.Bytes);

    }

    /// <summary>Prefill and decode of one call have the maps of both at the end of their parameter.</summary>
    [Fact]
    public void Boxes_of_a_decode_lie_beside_those_of_a_prefill()
    {
        const int KeyValueHeads = 2, Dim = 128;
        (_device.PrefillForm, _device.DecodeCopies) = (PrefillForm.Warpgroups, DecodeCopies.Boxes);
        using CudaTensor<Half> query = _device.Allocate<Half>(101, 8, Dim), output = _device.Allocate<Half>(101, 8, Dim), key = _device.Allocate<Half>(300, KeyValueHeads, Dim), value = _device.Allocate<Half>(300, KeyValueHeads, Dim);
        CudaAttention.ForwardVariableLength(query, key, value, output, [0, 1, 101], [0, 100, 300]);
        StreamOperation[] launches = [.. _runtime.Streams[0].Operations];
        Assert.Equal(["prefill_wgmma", "decode_tma"], launches.Where(static launch => launch.Function is not null).Select(static launch => launch.Function!.EntryPoint), StringComparer.Ordinal);
        CallBlock call = MemoryMarshal.Read<CallBlock>(launches[^1].Parameters);
        DecodeBoxBlock block = MemoryMarshal.Read<DecodeBoxBlock>(launches[^1].Parameters.AsSpan(DecodeBoxBlock.Offset));
        Assert.Equal(new(call.Key, false, Dim, 200, KeyValueHeads, 2, KeyValueHeads * Dim * 2, Dim * 2, 100 * KeyValueHeads * Dim * 2, 64, 64, 1), Map(block.KeyMap));
        Assert.Equal((call.Value, 64, 1, 1), (Map(block.ValueMap).Address, Map(block.ValueMap).Box1, block.KeyBatches, block.ValueBatches));
        Assert.Equal(176, Map(MemoryMarshal.Read<WarpgroupBlock>(launches[^1].Parameters.AsSpan(WarpgroupBlock.Offset)).KeyMap).Box1);
        Assert.Equal(0, DecodeBoxBlock.Offset % 64);
        Assert.InRange(Unsafe.SizeOf<DecodeBoxBlock>(), 1, DecodeBoxBlock.Bytes);
    }

    private static TensorMapShape Map(TensorMap map) => RecordingRuntime.TensorMapOf(map);
}
