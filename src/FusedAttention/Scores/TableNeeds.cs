using FusedAttention.Scores.Tracing;

namespace FusedAttention;

/// <summary>How large a function's tables must be for a call: where one is looked up by a head, sequence, query or key itself, it needs an entry for each.</summary>
internal sealed class TableNeeds
{
    private readonly string _name;
    private readonly List<(ScoreTable Table, ScoreOperation By, bool IsRow)> _needs = [];

    public TableNeeds(ScoreGraph graph, string name)
    {
        _name = name;
        foreach (ScoreStep step in graph.Steps)
        {
            if (step.Operation != ScoreOperation.Lookup) continue;
            bool hasRows = step.Second >= 0;
            Add(graph, step, step.First, hasRows);
            if (hasRows) Add(graph, step, step.Second, isRow: false);
        }
    }

    /// <exception cref="ArgumentException">A table is too small; the message has its shape and what the call needs.</exception>
    public void Check(int sequences, int heads, int queries, int keys, string argument)
    {
        foreach ((ScoreTable table, ScoreOperation by, bool isRow) in _needs)
        {
            (int needed, string what) = by switch
            {
                ScoreOperation.Batch => (sequences, "sequences"),
                ScoreOperation.Head => (heads, "query heads"),
                ScoreOperation.Query => (queries, "queries of the longest sequence"),
                _ => (keys, "keys of the longest sequence"),
            };
            int has = isRow ? table.Rows : table.Columns;
            if (has >= needed) continue;
            throw new ArgumentException(
                $"{_name} looks up a table of shape {table} by {by.ToString().ToLowerInvariant()}, but its {(isRow ? "rows" : "columns")} are {has} and the call has {needed} {what}.", argument);
        }
    }

    private void Add(ScoreGraph graph, ScoreStep step, int index, bool isRow)
    {
        ScoreOperation by = graph.Steps[index].Operation;
        if (by is ScoreOperation.Batch or ScoreOperation.Head or ScoreOperation.Query or ScoreOperation.Key) _needs.Add((graph.Tables[step.Slot], by, isRow));
    }
}
