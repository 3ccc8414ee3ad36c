using System.Runtime.CompilerServices;

namespace FusedAttention;

/// <summary>A soft cap as the last step rather than the first: <c>cap * tanh(s / cap)</c>.</summary>
public readonly struct TanhCap : IScoreFunction
{
    private readonly ScoreParameter _cap;
    private readonly ScoreParameter _perCap;

    /// <summary>A cap.</summary>
    /// <param name="cap">The largest magnitude, finite and above 0.</param>
    /// <exception cref="ArgumentOutOfRangeException">It is not.</exception>
    public TanhCap(float cap)
    {
        if (!float.IsFinite(cap) || cap <= 0) throw new ArgumentOutOfRangeException(nameof(cap), cap, "cap must be finite and greater than 0.");
        (_cap, _perCap) = (cap, 1 / cap);
    }

    /// <inheritdoc />
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public T Score<T>(T score, in ScoreContext<T> at)
        where T : struct, IScoreValue<T>
    {
        T cap = _cap;
        return cap * T.Tanh(score * _perCap);
    }
}
