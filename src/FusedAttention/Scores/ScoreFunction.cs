using System.Collections.Immutable;
using FusedAttention.Scores.Tracing;
using FusedAttention.Scores.Values;

namespace FusedAttention;

/// <summary>A score function as options hold it (<see cref="AttentionOptions.ScoreFunction"/>): immutable, checked when it is made, and free to be shared by any number of calls and threads.</summary>
public sealed class ScoreFunction
{
    private readonly ImmutableArray<ScorePart> _parts;

    private ScoreFunction(ImmutableArray<ScorePart> parts)
    {
        _parts = parts;
        Graph = ScoreTracer.Trace(ToString(), wantsTruth: false, Record, "function");
        Needs = new(Graph, ToString());
    }

    internal ReadOnlySpan<ScorePart> Parts => _parts.AsSpan();

    /// <summary>The function as operations.</summary>
    internal ScoreGraph Graph { get; }

    internal TableNeeds Needs { get; }

    /// <summary>Takes a function: runs it once over recorded values, which finds what no kernel could compute.</summary>
    /// <param name="function">The function with what it has captured.</param>
    /// <typeparam name="TFunction">Its type.</typeparam>
    /// <exception cref="ArgumentException">It looks up a default table, mixes numbers and truths, or asks values for what they are not; the message says what.</exception>
    public static ScoreFunction Of<TFunction>(TFunction function)
        where TFunction : struct, IScoreFunction
        => new([new ScorePart<TFunction>(function)]);

    /// <summary>This function, and then another one on its result. On the processor each is a pass of its own; of two structs <see cref="ScoreFunctions.Then"/> makes one.</summary>
    /// <param name="next">What comes after.</param>
    /// <exception cref="ArgumentNullException"><paramref name="next"/> is null.</exception>
    public ScoreFunction Then(ScoreFunction next)
    {
        ArgumentNullException.ThrowIfNull(next);
        return new(_parts.AddRange(next._parts));
    }

    /// <summary>The function of one score in double precision: for tests and plots.</summary>
    /// <param name="score">The score before.</param>
    /// <param name="batch">The row of the batch, or the sequence.</param>
    /// <param name="head">The query head.</param>
    /// <param name="query">The query within its sequence.</param>
    /// <param name="position">Its position on the key axis.</param>
    /// <param name="key">The key within its sequence.</param>
    public double Evaluate(double score, int batch, int head, int query, long position, int key)
    {
        var at = new ScoreContext<DoubleValue>(new(batch), new(head), new(query), new(position), new(key));
        var value = new DoubleValue(score);
        foreach (ScorePart part in Parts) value = part.Evaluate(value, at);
        return value.Value;
    }

    /// <summary>The names of its parts: <c>T5RelativeBias then TanhCap</c>.</summary>
    public override string ToString() => string.Join(" then ", _parts.Select(static part => part.Name));

    private RecordedValue Record()
    {
        RecordedValue score = ScoreTracer.Score;
        foreach (ScorePart part in Parts) score = part.Record(score, ScoreTracer.Context);
        return score;
    }
}
