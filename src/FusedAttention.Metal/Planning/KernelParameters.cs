using System.Runtime.InteropServices;

namespace FusedAttention.Metal.Planning;

/// <summary><c>AttentionParameters</c> of <c>parameters.metal</c>: what all threadgroups of a call share. Strides count elements.</summary>
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
}

/// <summary><c>SequenceEntry</c> of <c>parameters.metal</c>: one sequence of a call.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct SequenceEntry
{
    public long QueryStart;
    public long OutputStart;
    public long KeyStart;
    public long ValueStart;
    public long MaskStart;
    public long BiasStart;
    public long LogSumExpStart;
    public long BlockTableStart;
    public long QueryOffset;
    public int QueryLength;
    public int KeyLength;
}

/// <summary><c>WorkItem</c> of <c>parameters.metal</c>: what one threadgroup does.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct WorkItem
{
    public int Sequence;
    public int FirstRow;
    public int EndRow;
    public int FirstKey;
    public int EndKey;
    public int Partial;
}
