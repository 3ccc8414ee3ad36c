using System.Numerics;
using System.Runtime.CompilerServices;
using FusedAttention.Problems;
using FusedAttention.Tensors;

namespace FusedAttention.Cpu.Rows;

/// <summary>
/// Where the keys lie that masks and biases leave to a few rows together: an interval, rounded outwards to whole vectors. All rows are looked at vector by vector from both ends, so a mask
/// that excludes nothing at its ends costs two vectors a row, and one that excludes everything is read once.
/// </summary>
internal unsafe ref struct VisibleColumns
{
    private readonly nint* _masks;
    private readonly nint* _biases;
    private readonly int _biasBytes;
    private readonly uint _excluded;
    private int _maskCount;
    private int _biasCount;

    /// <param name="problem">The call.</param>
    /// <param name="room">Room for two addresses a row.</param>
    /// <param name="rows">The most rows that come.</param>
    public VisibleColumns(AttentionProblem problem, nint* room, int rows)
    {
        _masks = room;
        _biases = room + rows;
        if (problem.Bias == null || problem.HidesByScore) return;
        _biasBytes = problem.BiasType.Size();
        _excluded = problem.BiasType.NegativeInfinity();
    }

    /// <summary>
    /// Whether one row alone keeps [start, end) from being narrowed, as nearly every row does under most masks: it sees a key of the first vector and one of the last. Two loads, in place of two a row of all of them:
    /// with what <see cref="ScorePasses{TS, TV}"/> leaves alone 3 to 6 % of a prefill of 512 keys under a mask that excludes nothing (D = 64).
    /// </summary>
    public static bool AreNeededByOne(AttentionProblem problem, in SequenceProblem sequence, int query, int head, long start, long end)
    {
        byte* mask = problem.MaskOf(sequence, query, head);
        if (mask != null && !SeesEnds<byte>(mask, 0, start, end)) return false;
        byte* bias = problem.BiasOf(sequence, query, head);
        if (bias == null) return true;
        uint excluded = problem.BiasType.NegativeInfinity();
        return problem.BiasType.Size() == sizeof(uint) ? SeesEnds(bias, excluded, start, end) : SeesEnds(bias, (ushort)excluded, start, end);
    }

    /// <summary>Adds a row. Heads and queries that share a row of mask or bias come one after the other and are looked at once.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public void Add(AttentionProblem problem, in SequenceProblem sequence, int query, int head)
    {
        Add(_masks, ref _maskCount, (nint)problem.MaskOf(sequence, query, head));
        if (_biasBytes > 0) Add(_biases, ref _biasCount, (nint)problem.BiasOf(sequence, query, head));
    }

    /// <summary>Narrows [start, end): to nothing where no row has a key in it.</summary>
    public readonly void Narrow(ref int start, ref int end)
    {
        if (_maskCount > 0) Narrow<byte>(_masks, _maskCount, 0, ref start, ref end);
        if (_biasCount == 0) return;
        if (_biasBytes == sizeof(uint)) Narrow<uint>(_biases, _biasCount, _excluded, ref start, ref end);
        else Narrow<ushort>(_biases, _biasCount, (ushort)_excluded, ref start, ref end);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static bool SeesEnds<T>(byte* row, T excluded, long start, long end)
        where T : unmanaged, INumber<T>
    {
        if (end - start < Vector<T>.Count) return false;
        var hidden = new Vector<T>(excluded);
        return Vector.Load((T*)row + start) != hidden && Vector.Load((T*)row + end - Vector<T>.Count) != hidden;
    }

    private static void Add(nint* rows, ref int count, nint row)
    {
        if (row != 0 && (count == 0 || rows[count - 1] != row)) rows[count++] = row;
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Narrow<T>(nint* rows, int count, T excluded, ref int start, ref int end)
        where T : unmanaged, INumber<T>
    {
        var hidden = new Vector<T>(excluded);
        while (start + Vector<T>.Count <= end && AreHidden(rows, count, start, hidden)) start += Vector<T>.Count;
        while (start < end && start + Vector<T>.Count > end && AreHidden(rows, count, start, excluded)) start++;
        while (end - Vector<T>.Count >= start && AreHidden(rows, count, end - Vector<T>.Count, hidden)) end -= Vector<T>.Count;
        while (end > start && end - Vector<T>.Count < start && AreHidden(rows, count, end - 1, excluded)) end--;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static bool AreHidden<T>(nint* rows, int count, int key, Vector<T> hidden)
        where T : unmanaged, INumber<T>
    {
        // Bits that differ from the hidden pattern, of all rows together.
        Vector<T> seen = Vector.Load((T*)rows[0] + key) ^ hidden;
        for (int i = 1; i < count; i++) seen |= Vector.Load((T*)rows[i] + key) ^ hidden;
        return seen == Vector<T>.Zero;
    }

    private static bool AreHidden<T>(nint* rows, int count, int key, T hidden)
        where T : unmanaged, INumber<T>
    {
        for (int i = 0; i < count; i++)
        {
            if (((T*)rows[i])[key] != hidden) return false;
        }

        return true;
    }
}
