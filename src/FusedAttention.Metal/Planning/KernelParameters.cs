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
/// <remarks>For <c>merge_splits</c> the keys are the splits to merge, and <see cref="Partial"/> is that of the first.</remarks>
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

/// <summary><c>MergeParameters</c> of <c>parameters.metal</c>.</summary>
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
}

/// <summary><c>CacheParameters</c> of <c>parameters.metal</c>: strides of new tokens in elements, and what a slot holds.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct CacheParameters
{
    public long KeyTokenStride;
    public long KeyHeadStride;
    public long ValueTokenStride;
    public long ValueHeadStride;
    public int Heads;
    public int KeyDim;
    public int ValueDim;
    public int Reserved;
}

/// <summary>Slots of a cache to copy from one block to another: slot s of block b is number b * blockSize + s.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct SlotCopy
{
    public long From;
    public long To;
    public long Slots;
}
