using System.Runtime.InteropServices;
using FusedAttention.Problems;

namespace FusedAttention.Devices;

/// <summary>What all work items of a call share, as the kernels read it. Strides count elements.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct AttentionParameters
{
    public long QueryTokenStride;
    public long QueryHeadStride;
    public long OutputTokenStride;
    public long OutputHeadStride;
    public long KeyTokenStride;
    public long KeyHeadStride;
    public long ValueTokenStride;
    public long ValueHeadStride;
    public long KeyBlockStride;
    public long ValueBlockStride;
    public long MaskHeadStride;
    public long MaskQueryStride;
    public long BiasHeadStride;
    public long BiasQueryStride;
    public long LogSumExpHeadStride;
    public long LogSumExpQueryStride;
    public long LeftReach;
    public long RightReach;
    public int QueryHeads;
    public int KeyValueHeads;
    public int Group;
    public int BlockSize;
    public float Scale;
    public float SoftCap;

    public static AttentionParameters Of(AttentionProblem problem) => new()
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
