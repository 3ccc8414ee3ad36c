using System.Collections.Immutable;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using FusedAttention.Metal.Launching;
using FusedAttention.Problems;

namespace FusedAttention.Metal.Planning;

/// <summary>A plan on given memory: writes the tables, and makes launches that refer to them.</summary>
internal sealed unsafe class CallBinding
{
    private readonly AttentionProblem _problem;
    private readonly CallMemory _memory;
    private readonly CallItems _items;
    private readonly ScratchLayout _layout;
    private readonly MemoryPlace _scratch;
    private readonly ImmutableArray<FunctionConstant> _constants;
    private readonly ImmutableArray<byte> _parameters;

    public CallBinding(AttentionProblem problem, CallMemory memory, CallItems items, ScratchLayout layout, MemoryPlace scratch)
    {
        _problem = problem;
        _memory = memory;
        _items = items;
        _layout = layout;
        _scratch = scratch;
        _constants = FunctionConstants.Of(problem, Alignment.Allows(problem) && Alignment.Allows(problem, memory));
        AttentionParameters parameters = ParametersOf(problem);
        _parameters = [.. MemoryMarshal.AsBytes(new ReadOnlySpan<AttentionParameters>(in parameters))];
        WriteSequences();
        WriteItems();
        problem.AlibiSlopes.Span.CopyTo(Table<float>(layout.AlibiSlopes, problem.AlibiSlopes.Length));
        problem.SinkLogits.Span.CopyTo(Table<float>(layout.SinkLogits, problem.SinkLogits.Length));
    }

    /// <summary>Items [first, end) of a kernel's list.</summary>
    public KernelLaunch Main(KernelFamily family, int first, int end)
    {
        int before = _items.Lists.Where(pair => pair.Key < family).Sum(pair => pair.Value.Count);
        int simdgroups = family switch
        {
            KernelFamily.Prefill => TileTable.Prefill(_problem.KeyDim, _problem.ValueDim, _problem.KeyValueType)!.Value.Simdgroups,
            KernelFamily.Decode => TileTable.Decode(_problem.KeyDim, _problem.ValueDim)!.Value.Simdgroups,
            _ => TileTable.PlainSimdgroups,
        };
        ImmutableArray<BufferBinding> buffers =
        [
            Input(BufferSlot.Query, _memory.Query),
            Input(BufferSlot.Key, _memory.Key),
            Input(BufferSlot.Value, _memory.Value),
            .. Shared(_layout.Items, before + first),
            Scratch(BufferSlot.BlockTables, _layout.BlockTables),
        ];
        if (family != KernelFamily.Prefill) buffers = buffers.AddRange(Partials(isWritten: true));
        return Launch(KernelLibrary.Main(family, _problem, _constants), buffers, end - first, simdgroups);
    }

    /// <summary>Merges [first, end).</summary>
    public KernelLaunch MergeSplits(KernelFamily family, int first, int end) =>
        Launch(KernelLibrary.MergeSplits(family, _problem, _constants), [.. Shared(_layout.Merges, first), .. Partials(isWritten: false)], end - first, TileTable.PlainSimdgroups);

    private KernelLaunch Launch(KernelFunction function, ImmutableArray<BufferBinding> buffers, int items, int simdgroups) => new(
        function, buffers, BufferSlot.Parameters, _parameters,
        new GridSize((uint)items, (uint)_problem.KeyValueHeads, 1), new GridSize((uint)simdgroups * 32, 1, 1));

    /// <summary>What every kernel takes. Slots of absent tensors get the tables: Metal wants something there, and nothing is read.</summary>
    private BufferBinding[] Shared(long items, int firstItem) =>
    [
        new(BufferSlot.Output, _memory.Output.Memory, _memory.Output.Offset, IsWritten: true),
        Scratch(BufferSlot.Sequences, _layout.Sequences),
        Scratch(BufferSlot.Items, items + ((long)firstItem * Unsafe.SizeOf<WorkItem>())),
        _memory.Mask is MemoryPlace mask ? Input(BufferSlot.Mask, mask) : Scratch(BufferSlot.Mask, 0),
        _memory.Bias is MemoryPlace bias ? Input(BufferSlot.Bias, bias) : Scratch(BufferSlot.Bias, 0),
        _memory.LogSumExp is MemoryPlace lse ? new(BufferSlot.LogSumExp, lse.Memory, lse.Offset, IsWritten: true) : Scratch(BufferSlot.LogSumExp, 0),
        Scratch(BufferSlot.AlibiSlopes, _layout.AlibiSlopes),
        Scratch(BufferSlot.SinkLogits, _layout.SinkLogits),
    ];

    private BufferBinding[] Partials(bool isWritten) =>
    [
        Scratch(BufferSlot.PartialOutputs, _layout.PartialOutputs) with { IsWritten = isWritten && _items.PartialRows > 0 },
        Scratch(BufferSlot.PartialStatistics, _layout.PartialStatistics) with { IsWritten = isWritten && _items.PartialRows > 0 },
    ];

    private static BufferBinding Input(int slot, MemoryPlace place) => new(slot, place.Memory, place.Offset, IsWritten: false);

    private BufferBinding Scratch(int slot, long offset) => new(slot, _scratch.Memory, _scratch.Offset + offset, IsWritten: false);

    private Span<T> Table<T>(long offset, int count)
        where T : unmanaged
        => new(_scratch.Memory.Pointer + _scratch.Offset + offset, count);

    private void WriteItems()
    {
        int next = 0;
        Span<WorkItem> items = Table<WorkItem>(_layout.Items, _items.Lists.Values.Sum(list => list.Count));
        foreach ((_, WorkList list) in _items.Lists.OrderBy(pair => pair.Key))
        {
            for (int i = 0; i < list.Count; i++) items[next++] = list[i];
        }

        Span<WorkItem> merges = Table<WorkItem>(_layout.Merges, _items.Merges.Count);
        for (int i = 0; i < merges.Length; i++) merges[i] = _items.Merges[i];
    }

    private void WriteSequences()
    {
        Span<SequenceEntry> entries = Table<SequenceEntry>(_layout.Sequences, _problem.SequenceCount);
        int* blocks = (int*)(_scratch.Memory.Pointer + _scratch.Offset + _layout.BlockTables);
        long next = 0;
        for (int s = 0; s < entries.Length; s++)
        {
            ref readonly SequenceProblem sequence = ref _problem.Sequences[s];
            (int first, int end) = ScratchLayout.Blocks(_problem, sequence);
            entries[s] = new SequenceEntry
            {
                QueryStart = sequence.QueryStart,
                OutputStart = sequence.OutputStart,
                KeyStart = sequence.KeyStart,
                ValueStart = sequence.ValueStart,
                MaskStart = sequence.MaskStart,
                BiasStart = sequence.BiasStart,
                LogSumExpStart = sequence.LogSumExpStart,
                // Entries before the first block that is needed are not copied; kernels count from block 0.
                BlockTableStart = next - first,
                QueryOffset = sequence.QueryOffset,
                QueryLength = sequence.QueryLength,
                KeyLength = sequence.KeyLength,
            };
            for (int block = first; block < end; block++) blocks[next++] = sequence.BlockTable[block];
        }
    }

    private static AttentionParameters ParametersOf(AttentionProblem problem) => new()
    {
        QueryTokenStride = problem.QueryTokenStride,
        QueryHeadStride = problem.QueryHeadStride,
        OutputTokenStride = problem.OutputTokenStride,
        OutputHeadStride = problem.OutputHeadStride,
        KeyTokenStride = problem.KeyTokenStride,
        KeyHeadStride = problem.KeyHeadStride,
        ValueTokenStride = problem.ValueTokenStride,
        ValueHeadStride = problem.ValueHeadStride,
        KeyBlockStride = problem.KeyBlockStride,
        ValueBlockStride = problem.ValueBlockStride,
        MaskHeadStride = problem.MaskHeadStride,
        MaskQueryStride = problem.MaskQueryStride,
        BiasHeadStride = problem.BiasHeadStride,
        BiasQueryStride = problem.BiasQueryStride,
        LogSumExpHeadStride = problem.LogSumExpHeadStride,
        LogSumExpQueryStride = problem.LogSumExpQueryStride,
        LeftReach = problem.LeftReach,
        RightReach = problem.RightReach,
        QueryHeads = problem.QueryHeads,
        KeyValueHeads = problem.KeyValueHeads,
        Group = problem.Group,
        BlockSize = problem.BlockSize,
        Scale = problem.Scale,
        SoftCap = problem.SoftCap,
    };
}
