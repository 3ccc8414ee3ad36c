using System.Diagnostics.CodeAnalysis;

namespace FusedAttention.Scores.Tracing;

/// <summary>A value that records what is done with it. Functions run over it once; what they give is the root of a <see cref="ScoreGraph"/>.</summary>
/// <param name="node">The operation that it is the result of; null in <c>default</c>.</param>
internal readonly struct RecordedValue(ScoreNode? node) : IScoreValue<RecordedValue>
{
    public ScoreNode? Node { get; } = node;

    public static implicit operator RecordedValue(float value) => new(ScoreNode.Constant(value));

    public static implicit operator RecordedValue(ScoreParameter parameter) => new(ScoreNode.Of(parameter));

    public static RecordedValue operator +(RecordedValue left, RecordedValue right) => Number(ScoreOperation.Add, left, right);

    public static RecordedValue operator -(RecordedValue left, RecordedValue right) => Number(ScoreOperation.Subtract, left, right);

    public static RecordedValue operator *(RecordedValue left, RecordedValue right) => Number(ScoreOperation.Multiply, left, right);

    public static RecordedValue operator /(RecordedValue left, RecordedValue right) => Number(ScoreOperation.Divide, left, right);

    public static RecordedValue operator %(RecordedValue left, RecordedValue right) => Number(ScoreOperation.Remainder, left, right);

    public static RecordedValue operator -(RecordedValue value) => Number(ScoreOperation.Negate, value);

    public static RecordedValue operator <(RecordedValue left, RecordedValue right) => new(ScoreNode.Comparison(ScoreOperation.Less, left.Node, right.Node));

    public static RecordedValue operator >(RecordedValue left, RecordedValue right) => right < left;

    public static RecordedValue operator <=(RecordedValue left, RecordedValue right) => new(ScoreNode.Comparison(ScoreOperation.LessOrEqual, left.Node, right.Node));

    public static RecordedValue operator >=(RecordedValue left, RecordedValue right) => right <= left;

    public static RecordedValue operator ==(RecordedValue left, RecordedValue right) => new(ScoreNode.Comparison(ScoreOperation.Equal, left.Node, right.Node));

    public static RecordedValue operator !=(RecordedValue left, RecordedValue right) => !(left == right);

    public static RecordedValue operator &(RecordedValue left, RecordedValue right) => new(ScoreNode.Logic(ScoreOperation.And, left.Node, right.Node));

    public static RecordedValue operator |(RecordedValue left, RecordedValue right) => new(ScoreNode.Logic(ScoreOperation.Or, left.Node, right.Node));

    public static RecordedValue operator !(RecordedValue value) => new(ScoreNode.Logic(ScoreOperation.Not, value.Node));

    public static RecordedValue Select(RecordedValue condition, RecordedValue whenTrue, RecordedValue whenFalse) => new(ScoreNode.Select(condition.Node, whenTrue.Node, whenFalse.Node));

    public static RecordedValue Exp(RecordedValue value) => Number(ScoreOperation.Exp, value);

    public static RecordedValue Log(RecordedValue value) => Number(ScoreOperation.Log, value);

    public static RecordedValue Sqrt(RecordedValue value) => Number(ScoreOperation.Sqrt, value);

    public static RecordedValue Abs(RecordedValue value) => Number(ScoreOperation.Abs, value);

    public static RecordedValue Min(RecordedValue left, RecordedValue right) => Number(ScoreOperation.Min, left, right);

    public static RecordedValue Max(RecordedValue left, RecordedValue right) => Number(ScoreOperation.Max, left, right);

    public static RecordedValue Tanh(RecordedValue value) => Number(ScoreOperation.Tanh, value);

    public static RecordedValue Floor(RecordedValue value) => Number(ScoreOperation.Floor, value);

    public static RecordedValue Lookup(in ScoreTable table, RecordedValue index) => new(ScoreNode.Lookup(table, index.Node));

    public static RecordedValue Lookup(in ScoreTable table, RecordedValue row, RecordedValue column) => new(ScoreNode.Lookup(table, row.Node, column.Node));

    // Two that a struct has by right and that would make a branch of a value.
    public override bool Equals([NotNullWhen(true)] object? obj) => throw new ScoreTraceException("it calls Equals on a value; == compares, and T.Select chooses");

    public override int GetHashCode() => throw new ScoreTraceException("it asks a value for its hash code, which stands for no number");

    private static RecordedValue Number(ScoreOperation operation, RecordedValue value) => new(ScoreNode.Number(operation, value.Node));

    private static RecordedValue Number(ScoreOperation operation, RecordedValue left, RecordedValue right) => new(ScoreNode.Number(operation, left.Node, right.Node));
}
