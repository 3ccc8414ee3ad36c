#pragma warning disable CS0660, CS0661 // values are compared by the operators, inside functions only

namespace FusedAttention.Scores.Values;

/// <summary>One number in double precision: what a row that 32-bit arithmetic cannot hold is computed with, and what tests compare kernels with. A truth is 1 or 0.</summary>
internal readonly struct DoubleValue(double value) : IScoreValue<DoubleValue>
{
    public double Value { get; } = value;

    private bool Holds => Value != 0;

    public static implicit operator DoubleValue(float value) => new(value);

    public static implicit operator DoubleValue(ScoreParameter parameter) => new(parameter.Value);

    public static DoubleValue operator +(DoubleValue left, DoubleValue right) => new(left.Value + right.Value);

    public static DoubleValue operator -(DoubleValue left, DoubleValue right) => new(left.Value - right.Value);

    public static DoubleValue operator *(DoubleValue left, DoubleValue right) => new(left.Value * right.Value);

    public static DoubleValue operator /(DoubleValue left, DoubleValue right) => new(left.Value / right.Value);

    public static DoubleValue operator %(DoubleValue left, DoubleValue right) => new(left.Value % right.Value);

    public static DoubleValue operator -(DoubleValue value) => new(-value.Value);

    public static DoubleValue operator <(DoubleValue left, DoubleValue right) => Of(left.Value < right.Value);

    public static DoubleValue operator >(DoubleValue left, DoubleValue right) => Of(left.Value > right.Value);

    public static DoubleValue operator <=(DoubleValue left, DoubleValue right) => Of(left.Value <= right.Value);

    public static DoubleValue operator >=(DoubleValue left, DoubleValue right) => Of(left.Value >= right.Value);

    public static DoubleValue operator ==(DoubleValue left, DoubleValue right) => Of(left.Value == right.Value);

    public static DoubleValue operator !=(DoubleValue left, DoubleValue right) => Of(left.Value != right.Value);

    public static DoubleValue operator &(DoubleValue left, DoubleValue right) => Of(left.Holds && right.Holds);

    public static DoubleValue operator |(DoubleValue left, DoubleValue right) => Of(left.Holds || right.Holds);

    public static DoubleValue operator !(DoubleValue value) => Of(!value.Holds);

    public static DoubleValue Select(DoubleValue condition, DoubleValue whenTrue, DoubleValue whenFalse) => condition.Holds ? whenTrue : whenFalse;

    public static DoubleValue Exp(DoubleValue value) => new(Math.Exp(value.Value));

    public static DoubleValue Log(DoubleValue value) => new(Math.Log(value.Value));

    public static DoubleValue Sqrt(DoubleValue value) => new(Math.Sqrt(value.Value));

    public static DoubleValue Abs(DoubleValue value) => new(Math.Abs(value.Value));

    public static DoubleValue Min(DoubleValue left, DoubleValue right) => new(Math.Min(left.Value, right.Value));

    public static DoubleValue Max(DoubleValue left, DoubleValue right) => new(Math.Max(left.Value, right.Value));

    public static DoubleValue Tanh(DoubleValue value) => new(Math.Tanh(value.Value));

    public static DoubleValue Floor(DoubleValue value) => new(Math.Floor(value.Value));

    public static DoubleValue Lookup(in ScoreTable table, DoubleValue index) => new(table.Values[Index(index, table.Columns)]);

    public static DoubleValue Lookup(in ScoreTable table, DoubleValue row, DoubleValue column) => new(table.Values[(Index(row, table.Rows) * table.Columns) + Index(column, table.Columns)]);

    private static int Index(DoubleValue index, int count) => !(index.Value > 0) ? 0 : (int)Math.Min(index.Value, count - 1);

    private static DoubleValue Of(bool truth) => new(truth ? 1 : 0);
}
