namespace FusedAttention.Scores.Tracing;

/// <summary>What a node of a <see cref="ScoreGraph"/> is.</summary>
internal enum ScoreOperation
{
    // Leaves. A constant is a number or, where it is a truth, 1 or 0.
    Constant,
    Parameter,
    Score,
    Batch,
    Head,
    Query,
    Position,
    Key,

    // Numbers of numbers.
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
    Negate,
    Exp,
    Log,
    Sqrt,
    Abs,
    Min,
    Max,
    Tanh,
    Floor,

    /// <summary>An entry of a table: of the first operand's row if there are two, the last one's column.</summary>
    Lookup,

    // Truths of numbers.
    Less,
    LessOrEqual,
    Equal,

    // Truths of truths.
    And,
    Or,
    Not,

    /// <summary>By the first operand, a truth, the second or the third: two numbers, or two truths.</summary>
    Select,
}
