namespace FusedAttention.Scores.Tracing;

/// <summary>Runs functions over recorded values.</summary>
internal static class ScoreTracer
{
    /// <summary>Where a recorded score stands: nothing but names.</summary>
    public static ScoreContext<RecordedValue> Context => new(
        Leaf(ScoreOperation.Batch), Leaf(ScoreOperation.Head), Leaf(ScoreOperation.Query), Leaf(ScoreOperation.Position), Leaf(ScoreOperation.Key));

    public static RecordedValue Score => Leaf(ScoreOperation.Score);

    /// <summary>The graph of a function.</summary>
    /// <param name="name">The function's name, for messages.</param>
    /// <param name="wantsTruth">Whether it must give a truth.</param>
    /// <param name="record">Runs it over recorded values.</param>
    /// <param name="argument">The parameter that it came in.</param>
    /// <exception cref="ArgumentException">It cannot be recorded; the message says why.</exception>
    public static ScoreGraph Trace(string name, bool wantsTruth, Func<RecordedValue> record, string argument)
    {
        try
        {
            ScoreGraph graph = GraphOf(record(), wantsTruth);

            // What follows from its arguments alone is the same the next time.
            if (graph.Steps.SequenceEqual(GraphOf(record(), wantsTruth).Steps)) return graph;
            throw new ScoreTraceException("two runs gave two formulas; it must follow from its arguments and what it has captured alone");
        }
        catch (ScoreTraceException e)
        {
            throw new ArgumentException($"{name} cannot be taken: {e.Message}.", argument, e);
        }
        catch (Exception e) when (e is not OutOfMemoryException)
        {
            throw new ArgumentException($"{name} cannot be taken: run over recorded values it throws {e.GetType().Name}: {e.Message}", argument, e);
        }
    }

    private static ScoreGraph GraphOf(RecordedValue result, bool wantsTruth)
    {
        ScoreNode root = result.Node ?? throw new ScoreTraceException("it returns default(T), which is no value; write 0f for zero");
        if (root.IsTruth != wantsTruth)
        {
            throw new ScoreTraceException(wantsTruth
                ? $"Keep returns the number {ScoreText.Of(root)} and not a truth, such as a comparison gives"
                : $"Score returns the truth {ScoreText.Of(root)} and not a number; T.Select(truth, a, b) makes a number of it");
        }

        return new(root);
    }

    private static RecordedValue Leaf(ScoreOperation operation) => new(ScoreNode.Leaf(operation));
}
