namespace FusedAttention.Scores.Tracing;

/// <summary>One operation of a function as it was recorded: immutable, and shared by whatever takes its result. Operations on constants alone are constants.</summary>
internal sealed class ScoreNode
{
    /// <summary>Deeper than any formula; a loop that runs away comes here first.</summary>
    private const int MostDeep = 1000;

    private static readonly ScoreNode[] None = [];

    private ScoreNode(ScoreOperation operation, bool isTruth, params ScoreNode[] operands)
    {
        (Operation, IsTruth, Operands) = (operation, isTruth, operands);
        foreach (ScoreNode operand in operands) Depth = Math.Max(Depth, operand.Depth + 1);
        if (Depth > MostDeep) throw new ScoreTraceException($"it nests more than {MostDeep} operations; a loop in a function is written out operation by operation");
    }

    public ScoreOperation Operation { get; }

    /// <summary>Whether it gives a truth rather than a number.</summary>
    public bool IsTruth { get; }

    public ScoreNode[] Operands { get; }

    /// <summary>A constant's value.</summary>
    public float Value { get; private init; }

    public ScoreParameter Parameter { get; private init; }

    /// <summary>The table of a look-up.</summary>
    public ScoreTable Table { get; private init; }

    private int Depth { get; }

    private bool IsConstant => Operation == ScoreOperation.Constant;

    public static ScoreNode Leaf(ScoreOperation operation) => new(operation, isTruth: false, None);

    public static ScoreNode Constant(float value) => new(ScoreOperation.Constant, isTruth: false, None) { Value = value };

    public static ScoreNode Of(ScoreParameter parameter) => new(ScoreOperation.Parameter, isTruth: false, None) { Parameter = parameter };

    /// <summary>A number of numbers.</summary>
    public static ScoreNode Number(ScoreOperation operation, params ReadOnlySpan<ScoreNode?> operands)
    {
        ScoreNode[] numbers = Checked(operation, operands, truths: false);
        if (numbers.All(static operand => operand.IsConstant)) return Constant(Fold(operation, numbers[0].Value, numbers.Length > 1 ? numbers[1].Value : 0));
        return new(operation, isTruth: false, numbers);
    }

    /// <summary>A truth of numbers.</summary>
    public static ScoreNode Comparison(ScoreOperation operation, ScoreNode? left, ScoreNode? right)
    {
        ScoreNode[] numbers = Checked(operation, [left, right], truths: false);
        if (!numbers[0].IsConstant || !numbers[1].IsConstant) return new(operation, isTruth: true, numbers);
        (float a, float b) = (numbers[0].Value, numbers[1].Value);
        return Truth(operation switch
        {
            ScoreOperation.Less => a < b,
            ScoreOperation.LessOrEqual => a <= b,
            _ => a == b,
        });
    }

    /// <summary>A truth of truths.</summary>
    public static ScoreNode Logic(ScoreOperation operation, params ReadOnlySpan<ScoreNode?> operands)
    {
        ScoreNode[] truths = Checked(operation, operands, truths: true);
        ScoreNode left = truths[0], right = truths[^1];
        if (operation == ScoreOperation.Not)
        {
            if (left.IsConstant) return Truth(left.Value == 0);
            return left.Operation == ScoreOperation.Not ? left.Operands[0] : new(operation, isTruth: true, truths);
        }

        // What a constant leaves of "and" and "or".
        float deciding = operation == ScoreOperation.And ? 0 : 1;
        if (left.IsConstant) return left.Value == deciding ? left : right;
        if (right.IsConstant) return right.Value == deciding ? right : left;
        return new(operation, isTruth: true, truths);
    }

    public static ScoreNode Select(ScoreNode? condition, ScoreNode? whenTrue, ScoreNode? whenFalse)
    {
        ScoreNode truth = Checked(ScoreOperation.Select, [condition], truths: true)[0];
        bool isTruth = Present(ScoreOperation.Select, whenTrue).IsTruth;
        ScoreNode[] choices = Checked(ScoreOperation.Select, [whenTrue, whenFalse], isTruth);
        if (truth.IsConstant) return truth.Value != 0 ? choices[0] : choices[1];
        return new(ScoreOperation.Select, isTruth, truth, choices[0], choices[1]);
    }

    public static ScoreNode Lookup(in ScoreTable table, params ReadOnlySpan<ScoreNode?> index)
    {
        if (table.Identity is null) throw new ScoreTraceException("it looks up a table that is null: the field holds default(ScoreTable)");
        if (index.Length == 1 && table.Rows > 1) throw new ScoreTraceException($"it looks up a table of shape {table} by one index; At(row, column) takes two");
        return new(ScoreOperation.Lookup, isTruth: false, Checked(ScoreOperation.Lookup, index, truths: false)) { Table = table };
    }

    private static ScoreNode Truth(bool value) => new(ScoreOperation.Constant, isTruth: true, None) { Value = value ? 1 : 0 };

    private static ScoreNode[] Checked(ScoreOperation operation, ReadOnlySpan<ScoreNode?> operands, bool truths)
    {
        var nodes = new ScoreNode[operands.Length];
        for (int i = 0; i < nodes.Length; i++)
        {
            nodes[i] = Present(operation, operands[i]);
            if (nodes[i].IsTruth == truths) continue;
            string text = ScoreText.Of(nodes[i]);
            throw new ScoreTraceException(truths
                ? $"{operation} takes truths, such as comparisons give, and is given the number {text}"
                : $"{operation} takes numbers and is given the truth {text}; T.Select(truth, a, b) makes a number of it");
        }

        return nodes;
    }

    private static ScoreNode Present(ScoreOperation operation, ScoreNode? operand) =>
        operand ?? throw new ScoreTraceException($"{operation} is given default(T), which is no value; write 0f for zero");

    /// <summary>The very arithmetic of 32 bits that a kernel would do, as far as it is the same everywhere; elementary functions are rounded once.</summary>
    private static float Fold(ScoreOperation operation, float a, float b) => operation switch
    {
        ScoreOperation.Add => a + b,
        ScoreOperation.Subtract => a - b,
        ScoreOperation.Multiply => a * b,
        ScoreOperation.Divide => a / b,
        ScoreOperation.Remainder => a % b,
        ScoreOperation.Negate => -a,
        ScoreOperation.Exp => (float)Math.Exp(a),
        ScoreOperation.Log => (float)Math.Log(a),
        ScoreOperation.Sqrt => MathF.Sqrt(a),
        ScoreOperation.Abs => Math.Abs(a),
        ScoreOperation.Min => Math.Min(a, b),
        ScoreOperation.Max => Math.Max(a, b),
        ScoreOperation.Tanh => (float)Math.Tanh(a),
        ScoreOperation.Floor => MathF.Floor(a),
        _ => throw new InvalidOperationException($"{operation} is no operation on numbers."),
    };
}
