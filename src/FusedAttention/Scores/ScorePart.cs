using FusedAttention.Scores.Tracing;
using FusedAttention.Scores.Values;

namespace FusedAttention;

/// <summary>Takes a score function by its own type, so that a backend's generic code meets it without reflection.</summary>
internal interface IScoreVisitor
{
    void Visit<TFunction>(TFunction function)
        where TFunction : struct, IScoreFunction;
}

/// <summary>Takes a mask function by its own type.</summary>
internal interface IMaskVisitor
{
    void Visit<TFunction>(TFunction function)
        where TFunction : struct, IMaskFunction;
}

/// <summary>A score function whose type is known inside only.</summary>
internal abstract class ScorePart
{
    public abstract string Name { get; }

    public abstract void Accept<TVisitor>(ref TVisitor visitor)
        where TVisitor : struct, IScoreVisitor;

    public abstract RecordedValue Record(RecordedValue score, in ScoreContext<RecordedValue> at);

    public abstract DoubleValue Evaluate(DoubleValue score, in ScoreContext<DoubleValue> at);
}

/// <inheritdoc />
internal sealed class ScorePart<TFunction>(TFunction function) : ScorePart
    where TFunction : struct, IScoreFunction
{
    public override string Name => FunctionName.Of(typeof(TFunction));

    public override void Accept<TVisitor>(ref TVisitor visitor) => visitor.Visit(function);

    public override RecordedValue Record(RecordedValue score, in ScoreContext<RecordedValue> at) => function.Score(score, at);

    public override DoubleValue Evaluate(DoubleValue score, in ScoreContext<DoubleValue> at) => function.Score(score, at);
}

/// <summary>A mask function whose type is known inside only.</summary>
internal abstract class MaskPart
{
    public abstract string Name { get; }

    public abstract void Accept<TVisitor>(ref TVisitor visitor)
        where TVisitor : struct, IMaskVisitor;

    public abstract RecordedValue Record(in ScoreContext<RecordedValue> at);

    public abstract DoubleValue Evaluate(in ScoreContext<DoubleValue> at);
}

/// <inheritdoc />
internal sealed class MaskPart<TFunction>(TFunction function) : MaskPart
    where TFunction : struct, IMaskFunction
{
    public override string Name => FunctionName.Of(typeof(TFunction));

    public override void Accept<TVisitor>(ref TVisitor visitor) => visitor.Visit(function);

    public override RecordedValue Record(in ScoreContext<RecordedValue> at) => function.Keep(at);

    public override DoubleValue Evaluate(in ScoreContext<DoubleValue> at) => function.Keep(at);
}

/// <summary>Types as users wrote them.</summary>
internal static class FunctionName
{
    public static string Of(Type type)
    {
        if (!type.IsGenericType) return type.Name;
        Type generic = type.GetGenericTypeDefinition();
        IEnumerable<string> arguments = type.GetGenericArguments().Select(Of);
        if (generic == typeof(ScoreSequence<,>)) return string.Join(" then ", arguments);
        if (generic == typeof(MaskIntersection<,>)) return string.Join(" and ", arguments);
        return $"{type.Name[..type.Name.IndexOf('`')]}<{string.Join(", ", arguments)}>";
    }
}
