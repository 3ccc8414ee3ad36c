#pragma warning disable CS0660, CS0661 // values are compared by the operators, inside functions only

using System.Runtime.CompilerServices;
using FusedAttention.Cpu.Numerics;

namespace FusedAttention.Cpu.Functions;

/// <summary>What is known of the lanes of a value while code is compiled.</summary>
internal enum Pattern : byte
{
    /// <summary>Nothing.</summary>
    Any,

    /// <summary>All lanes are the same.</summary>
    Uniform,

    /// <summary>Each lane is one more than the one before.</summary>
    Consecutive,
}

/// <summary>
/// As many keys of one row as a vector has lanes, as functions of scores see them. A truth is a mask of all ones or zeros.
/// </summary>
/// <remarks>
/// The pattern is no data: it is a constant in each place, which the compiler carries through the inlined operators and removes. It makes look-ups what they are worth, one broadcast where every lane asks for the same
/// entry (a head's), one load where they ask for one after the other (a key's, a distance's), and a gather only where nothing is known: some 20 cycles of AVX-512 against 1.
/// </remarks>
internal readonly unsafe struct Lanes<TS, TV> : IScoreValue<Lanes<TS, TV>>
    where TS : struct, ISimd<TV>
    where TV : unmanaged
{
    public readonly TV Value;
    private readonly Pattern _pattern;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public Lanes(TV value, Pattern pattern)
    {
        Value = value;
        _pattern = pattern;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static implicit operator Lanes<TS, TV>(float value) => new(TS.Create(value), Pattern.Uniform);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static implicit operator Lanes<TS, TV>(ScoreParameter parameter) => new(TS.Create(parameter.Value), Pattern.Uniform);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes<TS, TV> operator +(Lanes<TS, TV> left, Lanes<TS, TV> right) =>
        new(TS.Add(left.Value, right.Value), left._pattern == Pattern.Uniform ? right._pattern : right._pattern == Pattern.Uniform ? left._pattern : Pattern.Any);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes<TS, TV> operator -(Lanes<TS, TV> left, Lanes<TS, TV> right) =>
        new(TS.Subtract(left.Value, right.Value), right._pattern == Pattern.Uniform ? left._pattern : Pattern.Any);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes<TS, TV> operator *(Lanes<TS, TV> left, Lanes<TS, TV> right) => new(TS.Multiply(left.Value, right.Value), Both(left, right));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes<TS, TV> operator /(Lanes<TS, TV> left, Lanes<TS, TV> right) => new(TS.Divide(left.Value, right.Value), Both(left, right));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes<TS, TV> operator %(Lanes<TS, TV> left, Lanes<TS, TV> right)
    {
        TV quotient = TS.Divide(left.Value, right.Value);
        TV whole = TS.Floor(TS.Abs(quotient));
        whole = TS.Select(TS.LessThan(quotient, TS.Zero), whole, TS.Subtract(TS.Zero, whole));
        return new(TS.MultiplyAdd(whole, right.Value, left.Value), Both(left, right));
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes<TS, TV> operator -(Lanes<TS, TV> value) => new(TS.Subtract(TS.Create(-0f), value.Value), Same(value));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes<TS, TV> operator <(Lanes<TS, TV> left, Lanes<TS, TV> right) => new(TS.LessThan(left.Value, right.Value), Both(left, right));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes<TS, TV> operator >(Lanes<TS, TV> left, Lanes<TS, TV> right) => new(TS.LessThan(right.Value, left.Value), Both(left, right));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes<TS, TV> operator <=(Lanes<TS, TV> left, Lanes<TS, TV> right) => new(TS.LessOrEqual(left.Value, right.Value), Both(left, right));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes<TS, TV> operator >=(Lanes<TS, TV> left, Lanes<TS, TV> right) => new(TS.LessOrEqual(right.Value, left.Value), Both(left, right));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes<TS, TV> operator ==(Lanes<TS, TV> left, Lanes<TS, TV> right) => new(TS.Equal(left.Value, right.Value), Both(left, right));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes<TS, TV> operator !=(Lanes<TS, TV> left, Lanes<TS, TV> right) => new(TS.Not(TS.Equal(left.Value, right.Value)), Both(left, right));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes<TS, TV> operator &(Lanes<TS, TV> left, Lanes<TS, TV> right) => new(TS.And(left.Value, right.Value), Both(left, right));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes<TS, TV> operator |(Lanes<TS, TV> left, Lanes<TS, TV> right) => new(TS.Or(left.Value, right.Value), Both(left, right));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes<TS, TV> operator !(Lanes<TS, TV> value) => new(TS.Not(value.Value), Same(value));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes<TS, TV> Select(Lanes<TS, TV> condition, Lanes<TS, TV> whenTrue, Lanes<TS, TV> whenFalse) => new(
        TS.Select(condition.Value, whenTrue.Value, whenFalse.Value), condition._pattern == Pattern.Uniform ? Both(whenTrue, whenFalse) : Pattern.Any);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes<TS, TV> Exp(Lanes<TS, TV> value) => new(Elementary<TS, TV>.Exp(value.Value), Same(value));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes<TS, TV> Log(Lanes<TS, TV> value) => new(Elementary<TS, TV>.Log(value.Value), Same(value));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes<TS, TV> Sqrt(Lanes<TS, TV> value) => new(TS.Sqrt(value.Value), Same(value));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes<TS, TV> Abs(Lanes<TS, TV> value) => new(TS.Abs(value.Value), Same(value));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes<TS, TV> Min(Lanes<TS, TV> left, Lanes<TS, TV> right) => OrNaN(TS.Select(TS.LessThan(right.Value, left.Value), right.Value, left.Value), left, right);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes<TS, TV> Max(Lanes<TS, TV> left, Lanes<TS, TV> right) => OrNaN(TS.Select(TS.LessThan(left.Value, right.Value), right.Value, left.Value), left, right);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes<TS, TV> Tanh(Lanes<TS, TV> value) => new(Elementary<TS, TV>.Tanh(value.Value), Same(value));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes<TS, TV> Floor(Lanes<TS, TV> value) => new(TS.Floor(value.Value), Same(value));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes<TS, TV> Lookup(in ScoreTable table, Lanes<TS, TV> index) => Lookup(table.First, table.Columns, index);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes<TS, TV> Lookup(in ScoreTable table, Lanes<TS, TV> row, Lanes<TS, TV> column)
    {
        if (row._pattern == Pattern.Uniform) return Lookup(table.First + ((nint)Entry(row, table.Rows) * table.Columns), table.Columns, column);

        // Below 2^24 entries, so the products are exact.
        TV index = TS.MultiplyAdd(TS.Floor(Clamped(row, table.Rows)), TS.Create(table.Columns), Clamped(column, table.Columns));
        return new(TS.Gather(table.First, index), Pattern.Any);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Lanes<TS, TV> Lookup(float* entries, int count, Lanes<TS, TV> index)
    {
        if (index._pattern == Pattern.Uniform) return new(TS.Create(entries[Entry(index, count)]), Pattern.Uniform);
        if (index._pattern == Pattern.Consecutive)
        {
            float first = TS.First(index.Value);
            int at = float.ConvertToIntegerNative<int>(first);
            if (first >= 0 && (uint)at + (uint)TS.Width <= (uint)count) return new(TS.Load(entries + at), Pattern.Any);
        }

        return new(TS.Gather(entries, Clamped(index, count)), Pattern.Any);
    }

    /// <summary>The entry that all lanes ask for, without a branch, so that it is found once before a loop. Of NaN x86's maximum takes the second operand, and Arm's conversion makes 0.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static int Entry(Lanes<TS, TV> index, int count) =>
        float.ConvertToIntegerNative<int>(float.MinNative(float.MaxNative(TS.First(index.Value), 0), count - 1));

    /// <summary>The indices brought into the table; NaN becomes 0.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static TV Clamped(Lanes<TS, TV> index, int count)
    {
        TV positive = TS.Select(TS.LessThan(TS.Zero, index.Value), index.Value, TS.Zero);
        TV last = TS.Create(count - 1);
        return TS.Select(TS.LessThan(positive, last), positive, last);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Lanes<TS, TV> OrNaN(TV value, Lanes<TS, TV> left, Lanes<TS, TV> right) => new(TS.Select(TS.Equal(right.Value, right.Value), value, right.Value), Both(left, right));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Pattern Same(Lanes<TS, TV> value) => value._pattern == Pattern.Uniform ? Pattern.Uniform : Pattern.Any;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Pattern Both(Lanes<TS, TV> left, Lanes<TS, TV> right) => left._pattern == Pattern.Uniform && right._pattern == Pattern.Uniform ? Pattern.Uniform : Pattern.Any;
}
