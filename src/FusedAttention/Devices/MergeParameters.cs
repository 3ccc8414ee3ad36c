using System.Runtime.InteropServices;
using FusedAttention.Problems;

namespace FusedAttention.Devices;

/// <summary>A merge of parts by their log-sum-exps, as the kernel reads it. Strides count elements.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct MergeParameters
{
    public long PartialPartStride;
    public long PartialBatchStride;
    public long PartialQueryStride;
    public long PartialHeadStride;
    public long PartialLogSumExpPartStride;
    public long PartialLogSumExpBatchStride;
    public long PartialLogSumExpQueryStride;
    public long PartialLogSumExpHeadStride;
    public long OutputBatchStride;
    public long OutputQueryStride;
    public long OutputHeadStride;
    public long LogSumExpBatchStride;
    public long LogSumExpQueryStride;
    public long LogSumExpHeadStride;
    public long Rows;
    public long Queries;
    public long Heads;
    public long Parts;
    public long Dim;

    public static MergeParameters Of(in MergeShape shape) => new()
    {
        PartialPartStride = shape.Partial.Part,
        PartialBatchStride = shape.Partial.Batch,
        PartialQueryStride = shape.Partial.Query,
        PartialHeadStride = shape.Partial.Head,
        PartialLogSumExpPartStride = shape.PartialLogSumExp.Part,
        PartialLogSumExpBatchStride = shape.PartialLogSumExp.Batch,
        PartialLogSumExpQueryStride = shape.PartialLogSumExp.Query,
        PartialLogSumExpHeadStride = shape.PartialLogSumExp.Head,
        OutputBatchStride = shape.Output.Batch,
        OutputQueryStride = shape.Output.Query,
        OutputHeadStride = shape.Output.Head,
        LogSumExpBatchStride = shape.LogSumExp.Batch,
        LogSumExpQueryStride = shape.LogSumExp.Query,
        LogSumExpHeadStride = shape.LogSumExp.Head,
        Rows = checked(shape.Batch * shape.Queries * shape.Heads),
        Queries = shape.Queries,
        Heads = shape.Heads,
        Parts = shape.Parts,
        Dim = shape.Dim,
    };
}
