using System.Runtime.CompilerServices;
using FusedAttention.Cpu.Numerics;
using FusedAttention.Problems;

namespace FusedAttention.Cpu.Functions;

/// <summary>Where a vector of keys stands, as a loop over a row goes on.</summary>
internal struct LanePlace<TS, TV>
    where TS : struct, ISimd<TV>
    where TV : unmanaged
{
    private readonly TV _batch;
    private readonly TV _head;
    private readonly TV _query;
    private readonly TV _position;
    private TV _key;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public LanePlace(in FunctionRow row, long firstKey)
    {
        _batch = TS.Create(row.Batch);
        _head = TS.Create(row.Head);
        _query = TS.Create(row.Query);
        _position = TS.Create(row.Position);
        _key = TS.Add(TS.Create(firstKey), TS.Iota);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public readonly ScoreContext<Lanes<TS, TV>> Context() => new(
        new(_batch, Pattern.Uniform), new(_head, Pattern.Uniform), new(_query, Pattern.Uniform), new(_position, Pattern.Uniform), new(_key, Pattern.Consecutive));

    /// <summary>On to the next vector of keys: whole numbers up to 2^24 add exactly.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public void Advance() => _key = TS.Add(_key, TS.Create(TS.Width));

    /// <summary>To the vector of keys that begins at <paramref name="key"/>.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public void MoveTo(int key) => _key = TS.Add(TS.Create(key), TS.Iota);
}
