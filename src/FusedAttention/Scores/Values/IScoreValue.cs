namespace FusedAttention;

/// <summary>
/// A number in a score or mask function (<see cref="IScoreFunction"/>, <see cref="IMaskFunction"/>): the library gives it several forms, and a function written once is compiled for all of them. On the processor it is a vector of as many
/// keys as the instruction set has lanes, or one number in double precision; on a GPU it is recorded, and printed as the kernel's text.
/// </summary>
/// <remarks>
/// <para>Numbers are 32-bit floats; whole numbers (positions, heads, keys) are exact up to 2^24. Comparisons give truths, which <c>&amp;</c>, <c>|</c>, <c>!</c> and <see cref="Select"/> take and arithmetic refuses.</para>
/// <para>There is no branch on a value, since one value stands for many keys: both sides of a choice are computed and <see cref="Select"/> chooses. What the side not taken gives, NaN or infinite, does not show.</para>
/// <para>A <see cref="float"/>, and so an <see cref="int"/>, converts implicitly and becomes a constant; a number that changes from call to call is a <see cref="ScoreParameter"/>, so that a GPU needs no new kernel for it.</para>
/// </remarks>
/// <typeparam name="T">The implementing type.</typeparam>
public interface IScoreValue<T>
    where T : struct, IScoreValue<T>
{
    /// <summary>A constant.</summary>
    /// <param name="value">The number.</param>
    static abstract implicit operator T(float value);

    /// <summary>A number that a function has captured and that differs from call to call.</summary>
    /// <param name="parameter">The number.</param>
    static abstract implicit operator T(ScoreParameter parameter);

    /// <summary>The sum.</summary>
    /// <param name="left">A number.</param>
    /// <param name="right">Another one.</param>
    static abstract T operator +(T left, T right);

    /// <summary>The difference.</summary>
    /// <param name="left">A number.</param>
    /// <param name="right">What is taken from it.</param>
    static abstract T operator -(T left, T right);

    /// <summary>The product.</summary>
    /// <param name="left">A number.</param>
    /// <param name="right">Another one.</param>
    static abstract T operator *(T left, T right);

    /// <summary>The quotient of real numbers. For whole numbers below 2^24, <c>T.Floor(a / b)</c> is the whole quotient.</summary>
    /// <param name="left">A number.</param>
    /// <param name="right">What it is divided by.</param>
    static abstract T operator /(T left, T right);

    /// <summary>The remainder, with the sign of <paramref name="left"/> as everywhere in C#; exact for whole numbers below 2^24.</summary>
    /// <param name="left">A number.</param>
    /// <param name="right">What it is divided by.</param>
    static abstract T operator %(T left, T right);

    /// <summary>The number with the other sign.</summary>
    /// <param name="value">A number.</param>
    static abstract T operator -(T value);

    /// <summary>Whether the left one is smaller; false if one is NaN.</summary>
    /// <param name="left">A number.</param>
    /// <param name="right">Another one.</param>
    static abstract T operator <(T left, T right);

    /// <summary>Whether the left one is larger; false if one is NaN.</summary>
    /// <param name="left">A number.</param>
    /// <param name="right">Another one.</param>
    static abstract T operator >(T left, T right);

    /// <summary>Whether the left one is not larger; false if one is NaN.</summary>
    /// <param name="left">A number.</param>
    /// <param name="right">Another one.</param>
    static abstract T operator <=(T left, T right);

    /// <summary>Whether the left one is not smaller; false if one is NaN.</summary>
    /// <param name="left">A number.</param>
    /// <param name="right">Another one.</param>
    static abstract T operator >=(T left, T right);

    /// <summary>Whether two numbers are the same; false if one is NaN.</summary>
    /// <param name="left">A number.</param>
    /// <param name="right">Another one.</param>
    static abstract T operator ==(T left, T right);

    /// <summary>Whether two numbers differ; true if one is NaN.</summary>
    /// <param name="left">A number.</param>
    /// <param name="right">Another one.</param>
    static abstract T operator !=(T left, T right);

    /// <summary>Whether both hold.</summary>
    /// <param name="left">A truth.</param>
    /// <param name="right">Another one.</param>
    static abstract T operator &(T left, T right);

    /// <summary>Whether one of two holds, or both.</summary>
    /// <param name="left">A truth.</param>
    /// <param name="right">Another one.</param>
    static abstract T operator |(T left, T right);

    /// <summary>Whether a truth does not hold.</summary>
    /// <param name="value">A truth.</param>
    static abstract T operator !(T value);

    /// <summary>One of two numbers, or of two truths.</summary>
    /// <param name="condition">A truth.</param>
    /// <param name="whenTrue">The result where it holds.</param>
    /// <param name="whenFalse">The result where it does not.</param>
    static abstract T Select(T condition, T whenTrue, T whenFalse);

    /// <summary>The exponential.</summary>
    /// <param name="value">A number.</param>
    static abstract T Exp(T value);

    /// <summary>The natural logarithm: negative infinity of 0, NaN of what is negative.</summary>
    /// <param name="value">A number.</param>
    static abstract T Log(T value);

    /// <summary>The square root: NaN of what is negative.</summary>
    /// <param name="value">A number.</param>
    static abstract T Sqrt(T value);

    /// <summary>The magnitude.</summary>
    /// <param name="value">A number.</param>
    static abstract T Abs(T value);

    /// <summary>The smaller; NaN if one is.</summary>
    /// <param name="left">A number.</param>
    /// <param name="right">Another one.</param>
    static abstract T Min(T left, T right);

    /// <summary>The larger; NaN if one is.</summary>
    /// <param name="left">A number.</param>
    /// <param name="right">Another one.</param>
    static abstract T Max(T left, T right);

    /// <summary>The hyperbolic tangent.</summary>
    /// <param name="value">A number.</param>
    static abstract T Tanh(T value);

    /// <summary>The largest whole number that is not larger.</summary>
    /// <param name="value">A number.</param>
    static abstract T Floor(T value);

    /// <summary>An entry of a table: <see cref="ScoreTable.At{T}(T)"/> reads better.</summary>
    /// <param name="table">The table.</param>
    /// <param name="index">Which entry.</param>
    static abstract T Lookup(in ScoreTable table, T index);

    /// <summary>An entry of a table of rows and columns: <see cref="ScoreTable.At{T}(T, T)"/> reads better.</summary>
    /// <param name="table">The table.</param>
    /// <param name="row">Which row.</param>
    /// <param name="column">Which column.</param>
    static abstract T Lookup(in ScoreTable table, T row, T column);
}
