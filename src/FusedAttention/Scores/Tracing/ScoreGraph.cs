namespace FusedAttention.Scores.Tracing;

/// <summary>One operation of a graph.</summary>
/// <param name="Operation">What it is.</param>
/// <param name="IsTruth">Whether it gives a truth.</param>
/// <param name="First">The number of its first operand in the graph, or -1.</param>
/// <param name="Second">The second's.</param>
/// <param name="Third">The third's.</param>
/// <param name="Slot">The slot of a parameter or of a look-up's table; otherwise -1.</param>
/// <param name="ValueBits">The bits of a constant, which tell 0 from -0 and keep a NaN equal to itself.</param>
internal readonly record struct ScoreStep(ScoreOperation Operation, bool IsTruth, int First = -1, int Second = -1, int Third = -1, int Slot = -1, int ValueBits = 0)
{
    /// <summary>A constant's value.</summary>
    public float Value => BitConverter.Int32BitsToSingle(ValueBits);
}

/// <summary>
/// A function as a list of operations, operands before what takes them, the result last. Equal operations on equal operands are one. Tables and parameters are slots in the order of their first use, so two functions of one
/// form are one graph whatever numbers they have captured.
/// </summary>
internal sealed class ScoreGraph
{
    /// <summary>More than any formula has; a kernel of a GPU has all of them in its inner loop.</summary>
    private const int MostSteps = 4096;

    private readonly List<ScoreStep> _steps = [];
    private readonly List<ScoreTable> _tables = [];
    private readonly List<ScoreParameter> _parameters = [];

    /// <exception cref="ScoreTraceException">It has too many operations.</exception>
    public ScoreGraph(ScoreNode root)
    {
        var numbers = new Dictionary<ScoreNode, int>(ReferenceEqualityComparer.Instance);
        var places = new Dictionary<ScoreStep, int>();
        Add(root, numbers, places);
        Form = new(_steps);
    }

    /// <summary>The operations, less the tables and parameters that they take: what tells one kernel from another.</summary>
    public ScoreForm Form { get; }

    public IReadOnlyList<ScoreStep> Steps => _steps;

    public IReadOnlyList<ScoreTable> Tables => _tables;

    public IReadOnlyList<ScoreParameter> Parameters => _parameters;

    /// <summary>Whether a step of this kind is there.</summary>
    public bool Has(ScoreOperation operation) => _steps.Exists(step => step.Operation == operation);

    /// <summary>The operations, one a line, for people.</summary>
    public override string ToString() => ScoreText.Of(this);

    // Recursion goes no deeper than a node may lie.
    private int Add(ScoreNode node, Dictionary<ScoreNode, int> numbers, Dictionary<ScoreStep, int> places)
    {
        if (numbers.TryGetValue(node, out int known)) return known;
        Span<int> operands = [-1, -1, -1];
        for (int i = 0; i < node.Operands.Length; i++) operands[i] = Add(node.Operands[i], numbers, places);
        int slot = node.Operation switch
        {
            ScoreOperation.Lookup => SlotOf(node.Table),
            ScoreOperation.Parameter => SlotOf(node.Parameter),
            _ => -1,
        };
        var step = new ScoreStep(node.Operation, node.IsTruth, operands[0], operands[1], operands[2], slot, BitConverter.SingleToInt32Bits(node.Value));
        if (!places.TryGetValue(step, out int place))
        {
            if (_steps.Count == MostSteps) throw new ScoreTraceException($"it has more than {MostSteps} operations");
            place = _steps.Count;
            _steps.Add(step);
            places.Add(step, place);
        }

        numbers.Add(node, place);
        return place;
    }

    private int SlotOf(in ScoreTable table)
    {
        object? identity = table.Identity;
        int slot = _tables.FindIndex(other => ReferenceEquals(other.Identity, identity));
        if (slot >= 0) return slot;
        _tables.Add(table);
        return _tables.Count - 1;
    }

    private int SlotOf(ScoreParameter parameter)
    {
        int slot = _parameters.FindIndex(other => other.Id == parameter.Id);
        if (slot >= 0) return slot;
        _parameters.Add(parameter);
        return _parameters.Count - 1;
    }
}
