using FusedAttention.Cuda.Ptx;

namespace FusedAttention.Cuda.Kernels;

/// <summary>
/// Partial results: the keys of a sequence with few rows are split among blocks of threads. Each leaves m, l and O of its rows in floats, and the last one to arrive merges them, always in the order of the
/// splits: m = max m_i, l = sum l_i exp(m_i - m), O = sum O_i exp(m_i - m).
/// </summary>
internal static class PartialRows
{
    /// <summary>Where the partial result of a row lies. A sequence's are <c>[split, key/value head, row]</c>; an item knows the first of its split.</summary>
    public static I64 Of(CallReader call, SequenceReader sequence, I32 first, I32 head, I32 row) => first.Widen() + I64.MultiplyAdd(head.Widen(), RowsOf(call, sequence), row.Widen());

    /// <summary>Where the partial result of a split item's row lies for the first split.</summary>
    public static I64 OfFirstSplit(CallReader call, SequenceReader sequence, ItemReader item, I32 head, I32 row) =>
        Of(call, sequence, item.Partial, head, row) - (item.Split.Widen() * Stride(call, sequence));

    /// <summary>Partial rows from a split to the next one.</summary>
    public static I64 Stride(CallReader call, SequenceReader sequence) => call.KeyValueHeads.Widen() * RowsOf(call, sequence);

    public static Global Outputs(CallReader call, I64 partial) => call.PartialOutputs + (partial * (call.Traits.ValueDim * 4L));

    public static Global Statistics(CallReader call, I64 partial) => call.PartialStatistics + (partial << 3);

    private static I64 RowsOf(CallReader call, SequenceReader sequence) => sequence.QueryLength.Widen() * call.Group.Widen();
}
