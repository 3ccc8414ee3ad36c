using System.Runtime.CompilerServices;
using FusedAttention.Cuda.Ptx;
using FusedAttention.Devices;
using FusedAttention.Tensors;
using Fields = FusedAttention.Cuda.Kernels.BlockFields<FusedAttention.Cuda.Kernels.CallBlock>;

namespace FusedAttention.Cuda.Kernels;

/// <summary>
/// Reads a call in an attention kernel: the block of numbers, and the tables. Each property writes a load of its own: parameters lie in the constant cache, and the assembler merges equal loads where
/// registers allow.
/// </summary>
internal sealed class CallReader
{
    private readonly PtxKernel _k;
    private readonly I64 _tables;

    /// <param name="k">The kernel, at its start.</param>
    /// <param name="traits">What it is specialised for.</param>
    public CallReader(PtxKernel k, in KernelTraits traits)
    {
        (_k, Traits) = (k, traits);
        I64 tables = I64Of(ref Fields.Block.Tables);
        _tables = I64.Select(tables < CallBlock.LongParameterBytes, k.ParameterAddress() + tables, tables).As("tables");
    }

    /// <summary>Where tables begin that travel with the block, from the block's beginning; with functions, behind what those have captured.</summary>
    public static int TablesBehindBlock => (Unsafe.SizeOf<CallBlock>() + 15) / 16 * 16;

    public KernelTraits Traits { get; }

    public ElementFormat QueryFormat => FormatOf(Traits.QueryType);

    public ElementFormat KeyValueFormat => FormatOf(Traits.KeyValueType);

    public Global Query => Pointer(ref Fields.Block.Query);

    public Global Key => Pointer(ref Fields.Block.Key);

    public Global Value => Pointer(ref Fields.Block.Value);

    public Global Output => Pointer(ref Fields.Block.Output);

    public Global Mask => Pointer(ref Fields.Block.Mask);

    public Global Bias => Pointer(ref Fields.Block.Bias);

    public Global LogSumExp => Pointer(ref Fields.Block.LogSumExp);

    public Global PartialOutputs => Pointer(ref Fields.Block.PartialOutputs);

    public Global PartialStatistics => Pointer(ref Fields.Block.PartialStatistics);

    public Global Counters => Pointer(ref Fields.Block.Counters);

    public I32 Group => I32Of(ref Fields.Block.Attention.Group);

    /// <summary>Which query a row is of: rows of a key/value head are queries times the heads of its group.</summary>
    public I32 QueryOf(I32 row) => I32.Quotient(row, I32Of(ref Fields.Block.GroupFactor), I32Of(ref Fields.Block.GroupShift));

    public I32 KeyValueHeads => I32Of(ref Fields.Block.Attention.KeyValueHeads);

    public F32 Scale => F32Of(ref Fields.Block.Attention.Scale);

    public F32 SoftCap => F32Of(ref Fields.Block.Attention.SoftCap);

    public I64 LeftReach => I64Of(ref Fields.Block.Attention.LeftReach);

    public I64 RightReach => I64Of(ref Fields.Block.Attention.RightReach);

    public I64 QueryTokenStride => I64Of(ref Fields.Block.Attention.QueryTokenStride);

    public I64 QueryHeadStride => I64Of(ref Fields.Block.Attention.QueryHeadStride);

    public I64 OutputTokenStride => I64Of(ref Fields.Block.Attention.OutputTokenStride);

    public I64 OutputHeadStride => I64Of(ref Fields.Block.Attention.OutputHeadStride);

    public I64 KeyTokenStride => I64Of(ref Fields.Block.Attention.KeyTokenStride);

    public I64 KeyHeadStride => I64Of(ref Fields.Block.Attention.KeyHeadStride);

    public I64 KeyBlockStride => I64Of(ref Fields.Block.Attention.KeyBlockStride);

    public I64 ValueTokenStride => I64Of(ref Fields.Block.Attention.ValueTokenStride);

    public I64 ValueHeadStride => I64Of(ref Fields.Block.Attention.ValueHeadStride);

    public I64 ValueBlockStride => I64Of(ref Fields.Block.Attention.ValueBlockStride);

    public I64 MaskHeadStride => I64Of(ref Fields.Block.Attention.MaskHeadStride);

    public I64 MaskQueryStride => I64Of(ref Fields.Block.Attention.MaskQueryStride);

    public I64 BiasHeadStride => I64Of(ref Fields.Block.Attention.BiasHeadStride);

    public I64 BiasQueryStride => I64Of(ref Fields.Block.Attention.BiasQueryStride);

    public I64 LogSumExpHeadStride => I64Of(ref Fields.Block.Attention.LogSumExpHeadStride);

    public I64 LogSumExpQueryStride => I64Of(ref Fields.Block.Attention.LogSumExpQueryStride);

    /// <summary>The elements of a type, for the emitter.</summary>
    public static ElementFormat FormatOf(AttentionElementType type) => type switch
    {
        AttentionElementType.Float32 => ElementFormat.Float32,
        AttentionElementType.Float16 => ElementFormat.Float16,
        AttentionElementType.BFloat16 => ElementFormat.BFloat16,
        AttentionElementType.Int8 => ElementFormat.Int8,
        AttentionElementType.Float8E4M3 => ElementFormat.Float8E4M3,
        _ => throw ElementTypes.Unknown(type),
    };

    /// <summary>A work item, by its number in the launch.</summary>
    public ItemReader Item(I32 index) => ItemReader.At(_k, ItemPlace(index));

    /// <summary>Where a work item lies.</summary>
    public Anywhere ItemPlace(I32 index) => Table(ref Fields.Block.ItemsOffset) + I64.Product(index, Unsafe.SizeOf<WorkItem>());

    /// <summary>A sequence, by its number in the call.</summary>
    public SequenceReader Sequence(I32 index) => new(_k, SequencePlace(index));

    /// <summary>Where a sequence's entry lies.</summary>
    public Anywhere SequencePlace(I32 index) => Table(ref Fields.Block.SequencesOffset) + I64.Product(index, Unsafe.SizeOf<SequenceEntry>());

    /// <summary>The block in which tokens number <paramref name="block"/> x block size and so on lie, of a sequence whose table begins at <paramref name="start"/>.</summary>
    public I32 BlockId(I64 start, I32 block) => _k.Load<I32>(Table(ref Fields.Block.BlockTablesOffset) + ((start + block.Widen()) << 2));

    public F32 AlibiSlope(I32 head) => _k.Load<F32>(Table(ref Fields.Block.AlibiSlopesOffset) + I64.Product(head, 4));

    public F32 SinkLogit(I32 head) => _k.Load<F32>(Table(ref Fields.Block.SinkLogitsOffset) + I64.Product(head, 4));

    private Anywhere Table(ref int offset) => new(_tables + I32Of(ref offset).Widen());

    private Global Pointer(ref ulong field) => new(I64Of(ref field));

    private I32 I32Of<T>(ref T field) => _k.Parameter<I32>(Fields.OffsetOf(ref field));

    private I64 I64Of<T>(ref T field) => _k.Parameter<I64>(Fields.OffsetOf(ref field));

    private F32 F32Of<T>(ref T field) => _k.Parameter<F32>(Fields.OffsetOf(ref field));
}

/// <summary>A <see cref="WorkItem"/> in registers.</summary>
internal sealed record ItemReader(I32 Sequence, I32 FirstRow, I32 EndRow, I32 FirstKey, I32 EndKey, I32 Partial, I32 Split, I32 SplitsWord)
{
    public I32 Splits => SplitsWord & 0xFFFF;

    /// <summary>The logarithm of the keys of a group, where splits are folded (<see cref="WorkItem.Folded"/>).</summary>
    public I32 GroupShift => (SplitsWord >>> 16) & 0xFF;

    /// <summary>The logarithm of the keys of what is a split here.</summary>
    public I32 PartShift => SplitsWord >>> 24;

    /// <param name="k">The kernel.</param>
    /// <param name="at">Where it lies, a multiple of 16.</param>
    public static ItemReader At(PtxKernel k, Address at)
    {
        I32[] first = k.LoadVector<I32>(at, 4), second = k.LoadVector<I32>(at.Behind(16), 4);
        return new(
            first[0].As("sequence"), first[1].As("item_first_row"), first[2].As("item_end_row"), first[3].As("item_first_key"),
            second[0].As("item_end_key"), second[1].As("item_partial"), second[2].As("split"), second[3].As("splits"));
    }
}

/// <summary>A <see cref="SequenceEntry"/>: what every kernel asks is in registers, and the rest is loaded where it is asked.</summary>
internal sealed class SequenceReader
{
    private readonly PtxKernel _k;
    private readonly Address _at;

    public SequenceReader(PtxKernel k, Address at)
    {
        (_k, _at) = (k, at);
        QueryOffset = I64Of(ref BlockFields<SequenceEntry>.Block.QueryOffset).As("query_offset");
        QueryLength = I32Of(ref BlockFields<SequenceEntry>.Block.QueryLength).As("query_length");
        KeyLength = I32Of(ref BlockFields<SequenceEntry>.Block.KeyLength).As("key_length");
        BlockTableStart = I64Of(ref BlockFields<SequenceEntry>.Block.BlockTableStart).As("block_table_start");
    }

    public I64 QueryOffset { get; }

    public I32 QueryLength { get; }

    public I32 KeyLength { get; }

    public I64 BlockTableStart { get; }

    public I64 QueryStart => I64Of(ref BlockFields<SequenceEntry>.Block.QueryStart);

    public I64 OutputStart => I64Of(ref BlockFields<SequenceEntry>.Block.OutputStart);

    public I64 KeyStart => I64Of(ref BlockFields<SequenceEntry>.Block.KeyStart);

    public I64 ValueStart => I64Of(ref BlockFields<SequenceEntry>.Block.ValueStart);

    public I64 MaskStart => I64Of(ref BlockFields<SequenceEntry>.Block.MaskStart);

    public I64 BiasStart => I64Of(ref BlockFields<SequenceEntry>.Block.BiasStart);

    public I64 LogSumExpStart => I64Of(ref BlockFields<SequenceEntry>.Block.LogSumExpStart);

    private I32 I32Of(ref int field) => _k.Load<I32>(_at.Behind(BlockFields<SequenceEntry>.OffsetOf(ref field)));

    private I64 I64Of(ref long field) => _k.Load<I64>(_at.Behind(BlockFields<SequenceEntry>.OffsetOf(ref field)));
}
