using System.Runtime.CompilerServices;

namespace FusedAttention;

/// <summary>A dilated sliding window (Beltagy et al. 2020, arXiv:2004.05150): a query sees every <c>step</c>-th key back from its own position, <c>window</c> of them.</summary>
public readonly struct DilatedWindow : IMaskFunction
{
    private readonly float _reach;
    private readonly float _step;
    private readonly bool _isTwoSided;

    /// <summary>A window.</summary>
    /// <param name="window">Keys that a query sees, its own included; 1 or more.</param>
    /// <param name="step">Positions from one to the next; 1 or more.</param>
    /// <param name="isTwoSided">Whether it reaches as far ahead.</param>
    /// <exception cref="ArgumentOutOfRangeException">A number is below 1.</exception>
    public DilatedWindow(int window, int step, bool isTwoSided = false)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(window, 1);
        ArgumentOutOfRangeException.ThrowIfLessThan(step, 1);
        (_reach, _step, _isTwoSided) = ((float)window * step, step, isTwoSided);
    }

    /// <inheritdoc />
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public T Keep<T>(in ScoreContext<T> at)
        where T : struct, IScoreValue<T>
    {
        T back = at.Position - at.Key;
        if (_isTwoSided) back = T.Abs(back);
        return (back >= 0) & (back < _reach) & (back % _step == 0);
    }
}
