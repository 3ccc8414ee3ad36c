using FusedAttention.Cuda.Ptx;
using FusedAttention.Devices;
using FusedAttention.Tensors;

namespace FusedAttention.Cuda.Kernels;

/// <summary>
/// A row of the call, one query of one query head: which keys it may see by position, and what its scores go through. Rows of a key/value head are queries times the heads of its group, query by query.
/// </summary>
internal sealed class RowReader
{
    private readonly PtxKernel _k;
    private readonly CallReader _call;
    private readonly SequenceReader _sequence;

    /// <param name="k">The kernel.</param>
    /// <param name="call">The call.</param>
    /// <param name="sequence">The row's sequence.</param>
    /// <param name="batch">Its number in the call.</param>
    /// <param name="query">The row's query.</param>
    /// <param name="head">The row's query head.</param>
    /// <param name="start">The first key that counts.</param>
    /// <param name="end">Behind the last one.</param>
    public RowReader(PtxKernel k, CallReader call, SequenceReader sequence, I32 batch, I32 query, I32 head, I32 start, I32 end)
    {
        (_k, _call, _sequence) = (k, call, sequence);
        (Batch, Query, Head, Start, End) = (batch, query, head, start, end);
        Position = sequence.QueryOffset + query.Widen();
        if (call.Traits.Has(CallFeatures.Alibi)) Slope = call.AlibiSlope(Head);
        if (call.Traits.Has(CallFeatures.Mask))
            Mask = call.Mask + (sequence.MaskStart + Along(call.MaskHeadStride, call.MaskQueryStride));
        if (call.Traits.Has(CallFeatures.Bias))
            Bias = call.Bias + ((sequence.BiasStart + Along(call.BiasHeadStride, call.BiasQueryStride)) * call.Traits.BiasType.Size());
    }

    /// <summary>A row by its number among those of its sequence and key/value head.</summary>
    /// <param name="k">The kernel.</param>
    /// <param name="call">The call.</param>
    /// <param name="sequence">The row's sequence.</param>
    /// <param name="keyValueHead">The row's key/value head.</param>
    /// <param name="index">The row's number.</param>
    /// <param name="item">The item, whose keys are the only ones that count.</param>
    public static RowReader Of(PtxKernel k, CallReader call, SequenceReader sequence, I32 keyValueHead, I32 index, ItemReader item)
    {
        I32 group = call.Group, query = call.QueryOf(index);
        I64 position = sequence.QueryOffset + query.Widen(), keys = sequence.KeyLength.Widen();
        return new(
            k, call, sequence, item.Sequence, query, I32.MultiplyAdd(keyValueHead, group, index - (query * group)),
            I32.Max(Bound(position - call.LeftReach, keys), item.FirstKey),
            I32.Min(Bound(position + call.RightReach + 1, keys), item.EndKey));
    }

    /// <summary>The number of its sequence in the call.</summary>
    public I32 Batch { get; }

    public I32 Query { get; }

    public I32 Head { get; }

    /// <summary>Of the query on the key axis.</summary>
    public I64 Position { get; }

    /// <summary>The first key that it may see by position.</summary>
    public I32 Start { get; }

    /// <summary>Behind the last one.</summary>
    public I32 End { get; }

    public F32? Slope { get; }

    /// <summary>Where the row's numbers lie that its score function goes by (<see cref="Scores.Tracing.ScoreForm.RowNumbers"/>); null where they are computed when they are asked for.</summary>
    public Shared? Numbers { get; set; }

    /// <summary>Of key 0.</summary>
    public Global? Mask { get; }

    /// <summary>Of key 0.</summary>
    public Global? Bias { get; }

    /// <summary>Where the row's query begins.</summary>
    public Global QueryElements => RowPlaces.Queries(_call, _sequence).Of(Query, Head);

    /// <summary>Where the row's output begins.</summary>
    public Global OutputElements => RowPlaces.Outputs(_call, _sequence).Of(Query, Head);

    public void StoreLogSumExp(F32 value) =>
        _k.Store(_call.LogSumExp + ((_sequence.LogSumExpStart + Along(_call.LogSumExpHeadStride, _call.LogSumExpQueryStride)) << 2), value);

    private I64 Along(I64 headStride, I64 queryStride) => (Head.Widen() * headStride) + (Query.Widen() * queryStride);

    /// <summary>A position moved by a reach, as a number of keys.</summary>
    private static I32 Bound(I64 position, I64 keys) => I64.Min(I64.Max(position, 0), keys).ToI32();
}
