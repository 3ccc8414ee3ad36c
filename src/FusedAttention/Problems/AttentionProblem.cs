using System.Runtime.CompilerServices;
using FusedAttention.Tensors;

namespace FusedAttention.Problems;

/// <summary>One sequence of a call: where its tensors start (in elements) and how its queries lie on the key axis.</summary>
internal unsafe struct SequenceProblem
{
    public long QueryStart;
    public long OutputStart;
    public long KeyStart;
    public long ValueStart;
    public long MaskStart;
    public long BiasStart;
    public long LogSumExpStart;
    public long KeyScaleStart;
    public long ValueScaleStart;
    public int* BlockTable;
    public int QueryLength;
    public int KeyLength;

    /// <summary>Its place in the call.</summary>
    public int Index;

    /// <summary>The position of query 0 on the key axis.</summary>
    public long QueryOffset;
}

/// <summary>Scales beside 8-bit keys or values: by the strides of their broadcast, 0 where one scale serves many. All zeros where there are none.</summary>
internal unsafe struct ScaleTensor
{
    public float* First;
    public long BlockStride;
    public long TokenStride;
    public long HeadStride;

    public readonly bool IsAbsent => First == null;
}

/// <summary>
/// A call with everything resolved to numbers and pointers: validated, aligned, broadcast. Kernels read it and ask no further question.
/// Pointers are valid during the call only. Strides and starts count elements.
/// </summary>
internal sealed unsafe class AttentionProblem
{
    private SequenceProblem[] _sequences = new SequenceProblem[1];

    // Tensors.
    public AttentionElementType QueryType;
    public AttentionElementType KeyValueType;
    public byte* Query;
    public byte* Key;
    public byte* Value;
    public byte* Output;
    public long QueryTokenStride;
    public long QueryHeadStride;
    public long OutputTokenStride;
    public long OutputHeadStride;
    public long KeyTokenStride;
    public long KeyHeadStride;
    public long ValueTokenStride;
    public long ValueHeadStride;

    // Sizes.
    public int SequenceCount;
    public int QueryHeads;
    public int KeyValueHeads;
    public int Group;
    public int KeyDim;
    public int ValueDim;

    // Paged caches: block size 0 means that keys lie at KeyStart + j * KeyTokenStride.
    public int BlockSize;

    /// <summary>Whether only a device can read the block tables: then <see cref="SequenceProblem.BlockTable"/> is null.</summary>
    public bool TablesAreElsewhere;
    public long KeyBlockStride;
    public long ValueBlockStride;

    // Scales of 8-bit keys and values.
    public ScaleTensor KeyScale;
    public ScaleTensor ValueScale;

    // Semantics.
    public float Scale;
    public float SoftCap;
    public long LeftReach;
    public long RightReach;
    public ReadOnlyMemory<float> AlibiSlopes;
    public ReadOnlyMemory<float> SinkLogits;
    public bool RowInvariant;

    /// <summary>Functions that the caller has written, and, where the processor computes, the form that its kernels run; null for none.</summary>
    public ScoreFunction? ScoreFunction;
    public MaskFunction? MaskFunction;
    public BoundScore? BoundScore;
    public BoundMask? BoundMask;

    /// <summary>Whether the call's numbers leave <see cref="FloatRange"/>: its rows are then computed in double precision.</summary>
    public bool IsBeyondFloats;

    /// <summary>The largest element of a query, and the largest dot product, that 32-bit arithmetic is trusted with.</summary>
    public float LargestQuery;
    public float LargestProduct;

    // Optional tensors: whether the call has them, and where. Plans are made of shapes too, where everything is null.
    public bool HasMask;
    public bool HasBias;
    public bool HasLogSumExp;
    public bool HasKeyScale;
    public bool HasValueScale;
    public byte* Mask;
    public long MaskHeadStride;
    public long MaskQueryStride;
    public byte* Bias;
    public AttentionElementType BiasType;
    public long BiasHeadStride;
    public long BiasQueryStride;
    public float* LogSumExp;
    public long LogSumExpHeadStride;
    public long LogSumExpQueryStride;

    /// <summary>Whether a key that is excluded by its bias is known only with its score: a score function comes after it.</summary>
    public bool HidesByScore => ScoreFunction is not null;

    /// <summary>Whether a tensor tells before the products which keys are seen: a mask, or a bias that has the last word.</summary>
    public bool HidesByTensor => Mask != null || (Bias != null && !HidesByScore);

    /// <summary>Whether something beside positions tells before the products which keys are seen.</summary>
    public bool HasVisibility => HidesByTensor || BoundMask is not null;

    /// <summary>What scores go through beside the scale.</summary>
    public ScoreSteps Steps =>
        (SoftCap > 0 ? ScoreSteps.SoftCap : ScoreSteps.None) | (Bias != null ? ScoreSteps.Bias : ScoreSteps.None) | (AlibiSlopes.IsEmpty ? ScoreSteps.None : ScoreSteps.Alibi) | (Mask != null ? ScoreSteps.Mask : ScoreSteps.None) |
        (ScoreFunction is null ? ScoreSteps.None : ScoreSteps.Function) | (MaskFunction is null ? ScoreSteps.None : ScoreSteps.MaskFunction);

    public Span<SequenceProblem> Sequences => _sequences.AsSpan(0, SequenceCount);

    public void SetSequenceCount(int count)
    {
        if (_sequences.Length < count) _sequences = new SequenceProblem[Math.Max(count, 2 * _sequences.Length)];
        SequenceCount = count;
        Sequences.Clear();
    }

    /// <summary>
    /// Which query, and which query head, a row of a key/value head is. Rows are queries times the group of query heads that share the key/value head, query by query, so that what serves one head
    /// of a group serves its neighbours.
    /// </summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public (int Query, int Head) RowAt(int keyValueHead, long row)
    {
        // Decoding asks for every row of every tile, where a division of 64 bits would be seen.
        if (row <= int.MaxValue)
        {
            (uint query, uint inGroup) = Math.DivRem((uint)row, (uint)Group);
            return ((int)query, (keyValueHead * Group) + (int)inGroup);
        }
        else
        {
            (long query, long inGroup) = Math.DivRem(row, Group);
            return ((int)query, (keyValueHead * Group) + (int)inGroup);
        }
    }

    /// <summary>Where a row's query begins.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public byte* QueryOf(in SequenceProblem sequence, int query, int head) =>
        Query + ((sequence.QueryStart + (query * QueryTokenStride) + (head * QueryHeadStride)) * QueryType.Size());

    /// <summary>Where a row's output begins.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public byte* OutputOf(in SequenceProblem sequence, int query, int head) =>
        Output + ((sequence.OutputStart + (query * OutputTokenStride) + (head * OutputHeadStride)) * QueryType.Size());

    /// <summary>Where a row's log-sum-exp goes, or null where it is not wanted.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public float* LogSumExpOf(in SequenceProblem sequence, int query, int head) =>
        LogSumExp == null ? null : LogSumExp + sequence.LogSumExpStart + (head * LogSumExpHeadStride) + (query * LogSumExpQueryStride);

    /// <summary>Where the mask of a row's key 0 is, or null without a mask.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public byte* MaskOf(in SequenceProblem sequence, int query, int head) =>
        Mask == null ? null : Mask + sequence.MaskStart + (head * MaskHeadStride) + (query * MaskQueryStride);

    /// <summary>Where the bias of a row's key 0 is, or null without a bias.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public byte* BiasOf(in SequenceProblem sequence, int query, int head) =>
        Bias == null ? null : Bias + ((sequence.BiasStart + (head * BiasHeadStride) + (query * BiasQueryStride)) * BiasType.Size());

    /// <summary>A row as functions are asked about it.</summary>
    public static FunctionRow FunctionRowOf(in SequenceProblem sequence, int query, int head) => new(sequence.Index, head, query, sequence.QueryOffset + query);

    /// <summary>The keys that query <paramref name="query"/> of <paramref name="sequence"/> may see by position.</summary>
    public KeyRange RangeOf(in SequenceProblem sequence, int query) =>
        KeyRange.Of(sequence.QueryOffset + query, LeftReach, RightReach, sequence.KeyLength);

    /// <summary>The keys that any query from <paramref name="first"/> to <paramref name="last"/>, both included, may see by position.</summary>
    public KeyRange RangeOf(in SequenceProblem sequence, int first, int last) =>
        KeyRange.Of(sequence.QueryOffset + first, sequence.QueryOffset + last, LeftReach, RightReach, sequence.KeyLength);

    /// <summary>The blocks [First, End) of a sequence that hold a key which some query may see: only their entries of the table are looked at. Without pages there is none.</summary>
    public (int First, int End) NeededBlocks(in SequenceProblem sequence)
    {
        if (BlockSize == 0 || sequence.QueryLength == 0) return (0, 0);
        KeyRange range = RangeOf(sequence, 0, sequence.QueryLength - 1);
        return range.IsEmpty ? (0, 0) : (range.Start / BlockSize, ((range.End - 1) / BlockSize) + 1);
    }

    /// <summary>Query-key pairs of one head that positions allow, over all sequences.</summary>
    public double AllowedPairs()
    {
        double pairs = 0;
        foreach (ref readonly SequenceProblem sequence in Sequences) pairs += AllowedPairs(sequence, 0, sequence.QueryLength);
        return pairs;
    }

    /// <summary>Query-key pairs of one head that positions allow, for queries [first, end) of one sequence.</summary>
    public double AllowedPairs(in SequenceProblem sequence, int first, int end)
    {
        // Both ends of the range are piecewise linear in the query, so the ends are summed in closed form: no loop over a million rows.
        double sum = 0;
        sum += SumClamped(sequence.QueryOffset + first + RightReach + 1, end - first, sequence.KeyLength);
        sum -= SumClamped(sequence.QueryOffset + first - LeftReach, end - first, sequence.KeyLength);
        return sum;
    }

    /// <summary>Multiply-adds of both products on allowed keys, all heads: two floating-point operations each. What calls report, plans and benchmarks count by.</summary>
    public double MultiplyAdds() => AllowedPairs() * QueryHeads * (KeyDim + ValueDim);

    /// <summary>Bytes of keys and values that some query may see, each counted once.</summary>
    public long KeyValueBytes()
    {
        long keys = 0;
        foreach (ref readonly SequenceProblem sequence in Sequences)
        {
            if (sequence.QueryLength > 0) keys += RangeOf(sequence, 0, sequence.QueryLength - 1).Length;
        }

        return keys * KeyValueHeads * (KeyValueType.RowBytes(KeyDim) + KeyValueType.RowBytes(ValueDim));
    }

    /// <summary>The sum of clamp(start + i, 0, max) for i in [0, count).</summary>
    private static double SumClamped(long start, long count, long max)
    {
        long rising = Math.Clamp(-start, 0, count);
        long saturated = Math.Clamp(max - start, rising, count);
        double ramp = saturated - rising;
        return (ramp * (start + rising)) + (ramp * (ramp - 1) / 2) + ((double)(count - saturated) * max);
    }
}
