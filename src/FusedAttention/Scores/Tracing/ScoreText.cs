using System.Globalization;
using System.Text;

namespace FusedAttention.Scores.Tracing;

/// <summary>Functions as text, for people: a graph line by line, an operation in a message.</summary>
internal static class ScoreText
{
    /// <summary>A message has room for so much of an operation.</summary>
    private const int MostNested = 3;

    public static string Of(ScoreGraph graph)
    {
        var text = new StringBuilder();
        for (int i = 0; i < graph.Steps.Count; i++)
        {
            ScoreStep step = graph.Steps[i];
            text.Append(CultureInfo.InvariantCulture, $"{Name(i)} = ");
            text.Append(step.Operation switch
            {
                ScoreOperation.Constant => ConstantOf(step.Value, step.IsTruth),
                ScoreOperation.Parameter => string.Create(CultureInfo.InvariantCulture, $"parameter{step.Slot}"),
                ScoreOperation.Lookup => string.Create(CultureInfo.InvariantCulture, $"table{step.Slot}{graph.Tables[step.Slot]}[{Name(step.First)}{(step.Second < 0 ? "" : ", " + Name(step.Second))}]"),
                _ => Applied(step.Operation, [.. ((int[])[step.First, step.Second, step.Third]).Where(static operand => operand >= 0).Select(Name)]),
            }).Append('\n');
        }

        return text.ToString();
    }

    public static string Of(ScoreNode node) => Of(node, MostNested);

    private static string Of(ScoreNode node, int depth) => depth == 0 && node.Operands.Length > 0 ? "(...)" : node.Operation switch
    {
        ScoreOperation.Constant => ConstantOf(node.Value, node.IsTruth),
        ScoreOperation.Parameter => "parameter",
        ScoreOperation.Lookup => $"table{node.Table}[{string.Join(", ", node.Operands.Select(operand => Of(operand, depth - 1)))}]",
        _ => Applied(node.Operation, [.. node.Operands.Select(operand => operand.Operands.Length > 1 && Symbol(operand.Operation) is not null ? $"({Of(operand, depth - 1)})" : Of(operand, depth - 1))]),
    };

    private static string Applied(ScoreOperation operation, string[] operands) => (Symbol(operation), operands) switch
    {
        ({ } symbol, [string left, string right]) => $"{left} {symbol} {right}",
        ({ } symbol, [string only]) => symbol + only,
        (_, []) => operation.ToString().ToLowerInvariant(),
        _ => $"{operation.ToString().ToLowerInvariant()}({string.Join(", ", operands)})",
    };

    private static string? Symbol(ScoreOperation operation) => operation switch
    {
        ScoreOperation.Add => "+",
        ScoreOperation.Subtract or ScoreOperation.Negate => "-",
        ScoreOperation.Multiply => "*",
        ScoreOperation.Divide => "/",
        ScoreOperation.Remainder => "%",
        ScoreOperation.Less => "<",
        ScoreOperation.LessOrEqual => "<=",
        ScoreOperation.Equal => "==",
        ScoreOperation.And => "&",
        ScoreOperation.Or => "|",
        ScoreOperation.Not => "!",
        _ => null,
    };

    private static string ConstantOf(float value, bool isTruth) => isTruth ? value != 0 ? "true" : "false" : value.ToString("R", CultureInfo.InvariantCulture);

    private static string Name(int step) => string.Create(CultureInfo.InvariantCulture, $"v{step}");
}
