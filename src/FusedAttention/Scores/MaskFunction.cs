using System.Collections.Immutable;
using FusedAttention.Scores.Tracing;
using FusedAttention.Scores.Values;

namespace FusedAttention;

/// <summary>A mask function as options hold it (<see cref="AttentionOptions.MaskFunction"/>): immutable, checked when it is made, and free to be shared by any number of calls and threads.</summary>
public sealed class MaskFunction
{
    private readonly ImmutableArray<MaskPart> _parts;

    private MaskFunction(ImmutableArray<MaskPart> parts)
    {
        _parts = parts;
        Graph = ScoreTracer.Trace(ToString(), wantsTruth: true, Record, "function");
        Needs = new(Graph, ToString());
        DependsOnHead = Graph.Has(ScoreOperation.Head);
    }

    internal ReadOnlySpan<MaskPart> Parts => _parts.AsSpan();

    /// <summary>The function as operations.</summary>
    internal ScoreGraph Graph { get; }

    internal TableNeeds Needs { get; }

    /// <summary>Whether heads may see different keys: where not, one head is asked for all.</summary>
    internal bool DependsOnHead { get; }

    /// <summary>Takes a function: runs it once over recorded values, which finds what no kernel could compute.</summary>
    /// <param name="function">The function with what it has captured.</param>
    /// <typeparam name="TFunction">Its type.</typeparam>
    /// <exception cref="ArgumentException">It looks up a default table, mixes numbers and truths, or asks values for what they are not; the message says what.</exception>
    public static MaskFunction Of<TFunction>(TFunction function)
        where TFunction : struct, IMaskFunction
        => new([new MaskPart<TFunction>(function)]);

    /// <summary>What both keep. On the processor each is a pass of its own; of two structs <see cref="ScoreFunctions.And"/> makes one.</summary>
    /// <param name="other">The other one.</param>
    /// <exception cref="ArgumentNullException"><paramref name="other"/> is null.</exception>
    public MaskFunction And(MaskFunction other)
    {
        ArgumentNullException.ThrowIfNull(other);
        return new(_parts.AddRange(other._parts));
    }

    /// <summary>Whether a query may see a key, in double precision: for tests and plots.</summary>
    /// <param name="batch">The row of the batch, or the sequence.</param>
    /// <param name="head">The query head.</param>
    /// <param name="query">The query within its sequence.</param>
    /// <param name="position">Its position on the key axis.</param>
    /// <param name="key">The key within its sequence.</param>
    public bool Evaluate(int batch, int head, int query, long position, int key)
    {
        var at = new ScoreContext<DoubleValue>(new(batch), new(head), new(query), new(position), new(key));
        foreach (MaskPart part in Parts)
        {
            if (part.Evaluate(at).Value == 0) return false;
        }

        return true;
    }

    /// <summary>The names of its parts: <c>DocumentMask and PrefixMask</c>.</summary>
    public override string ToString() => string.Join(" and ", _parts.Select(static part => part.Name));

    private RecordedValue Record()
    {
        RecordedValue kept = _parts[0].Record(ScoreTracer.Context);
        foreach (MaskPart part in Parts[1..]) kept &= part.Record(ScoreTracer.Context);
        return kept;
    }
}
