using System.Numerics;
using System.Runtime.CompilerServices;
using FusedAttention.Problems;
using FusedAttention.Tensors;

namespace FusedAttention.Cpu.Rows;

/// <summary>Which keys a row's mask, mask function and bias let it see. What its position allows is <see cref="KeyRange"/>'s, and where there is a score function, what that and the bias leave is known with the score only.</summary>
internal readonly unsafe struct RowVisibility
{
    private readonly byte* _mask;
    private readonly byte* _bias;
    private readonly int _biasBytes;
    private readonly uint _excluded;
    private readonly BoundMask? _function;
    private readonly FunctionRow _place;

    public RowVisibility(AttentionProblem problem, in SequenceProblem sequence, int query, int head)
        : this(problem, sequence, query, head, byBias: !problem.HidesByScore)
    {
    }

    private RowVisibility(AttentionProblem problem, in SequenceProblem sequence, int query, int head, bool byBias)
    {
        _mask = problem.MaskOf(sequence, query, head);
        _bias = byBias ? problem.BiasOf(sequence, query, head) : null;
        if (problem.BoundMask is not null) (_function, _place) = (problem.BoundMask, AttentionProblem.FunctionRowOf(sequence, query, head));
        if (_bias == null) return;
        _biasBytes = problem.BiasType.Size();
        _excluded = problem.BiasType.NegativeInfinity();
    }

    /// <summary>Of which keys the row looks at the dot product: not of one whose bias is negative infinity, even where a score function may let it be seen.</summary>
    public static RowVisibility OfProducts(AttentionProblem problem, in SequenceProblem sequence, int query, int head) => new(problem, sequence, query, head, byBias: true);

    /// <summary>Whether the score function excludes a key whatever its score is, so that its dot product, which 32 bits do not hold, does not matter: asked of few keys.</summary>
    public static bool IsExcludedByScore(AttentionProblem problem, in SequenceProblem sequence, int query, int head, long key)
    {
        if (problem.ScoreFunction is not { } function) return false;
        foreach (double score in (ReadOnlySpan<double>)[double.NaN, 0, -FloatRange.LargestKey, FloatRange.LargestKey])
        {
            if (!double.IsNegativeInfinity(function.Evaluate(score, sequence.Index, head, query, sequence.QueryOffset + query, (int)key))) return false;
        }

        return true;
    }

    /// <summary>Whether neither mask, mask function nor bias excludes a key.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public bool Sees(long key) => (_mask == null || _mask[key] != 0) && (_bias == null || !IsExcludedByBias(key)) && (_function is null || _function.Keeps(_place, (int)key));

    /// <summary>The first key of [start, end) that the row sees; <paramref name="end"/> if there is none. Where the first one is seen at once, as under most masks, this is one comparison.</summary>
    public int First(int start, int end)
    {
        while (start < end && !Sees(start))
        {
            start++;
            if (_mask != null) start = FirstOfMask(start, end);
            if (_bias != null) start = FirstOfBias(start, end);
            if (_function is not null) start = _function.First(_place, start, end);
        }

        return start;
    }

    /// <summary>One past the last key of [start, end) that the row sees; <paramref name="start"/> if there is none.</summary>
    public int End(int start, int end)
    {
        while (start < end && !Sees(end - 1))
        {
            end--;
            if (_mask != null) end = EndOfMask(start, end);
            if (_bias != null) end = EndOfBias(start, end);
            if (_function is not null) end = _function.End(_place, start, end);
        }

        return end;
    }

    /// <summary>The least interval with every key that some row of a sequence sees, by position, mask, mask function and bias.</summary>
    public static KeyRange Union(AttentionProblem problem, in SequenceProblem sequence)
    {
        KeyRange range = problem.RangeOf(sequence, 0, sequence.QueryLength - 1);
        if (range.IsEmpty || !problem.HasVisibility) return range;

        // Heads and queries that share one row of mask and bias need one look only.
        int heads = problem.MaskHeadStride == 0 && problem.BiasHeadStride == 0 && problem.MaskFunction is not { DependsOnHead: true } ? 1 : problem.QueryHeads;
        int start = range.End;
        int end = range.Start;
        for (int query = 0; query < sequence.QueryLength; query++)
        {
            KeyRange own = problem.RangeOf(sequence, query);
            for (int head = 0; head < heads; head++)
            {
                // Only what would widen the interval is looked at.
                var row = new RowVisibility(problem, sequence, query, head);
                int outside = Math.Min(own.End, start);
                int first = row.First(own.Start, outside);
                if (first < outside) start = first;
                outside = Math.Max(own.Start, end);
                int last = row.End(outside, own.End);
                if (last > outside) end = last;
            }
        }

        return start < end ? new(start, end) : new(range.Start, range.Start);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private bool IsExcludedByBias(long key) => _biasBytes == sizeof(uint) ? ((uint*)_bias)[key] == _excluded : ((ushort*)_bias)[key] == (ushort)_excluded;

    private int FirstOfMask(int start, int end) => FirstOther(_mask, (byte)0, start, end);

    private int EndOfMask(int start, int end) => EndOfOthers(_mask, (byte)0, start, end);

    private int FirstOfBias(int start, int end) =>
        _biasBytes == sizeof(uint) ? FirstOther((uint*)_bias, _excluded, start, end) : FirstOther((ushort*)_bias, (ushort)_excluded, start, end);

    private int EndOfBias(int start, int end) =>
        _biasBytes == sizeof(uint) ? EndOfOthers((uint*)_bias, _excluded, start, end) : EndOfOthers((ushort*)_bias, (ushort)_excluded, start, end);

    // Written out, because the framework's searches of spans took 16 us over 16k biases (AVX-512), most of a call that sees 512 keys.
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static int FirstOther<T>(T* row, T excluded, int start, int end)
        where T : unmanaged, INumber<T>
    {
        var hidden = new Vector<T>(excluded);
        while (start + Vector<T>.Count <= end && Vector.Load(row + start) == hidden) start += Vector<T>.Count;
        while (start < end && row[start] == excluded) start++;
        return start;
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static int EndOfOthers<T>(T* row, T excluded, int start, int end)
        where T : unmanaged, INumber<T>
    {
        var hidden = new Vector<T>(excluded);
        while (end - Vector<T>.Count >= start && Vector.Load(row + end - Vector<T>.Count) == hidden) end -= Vector<T>.Count;
        while (end > start && row[end - 1] == excluded) end--;
        return end;
    }
}
