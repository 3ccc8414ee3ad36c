using System.Globalization;
using System.Text;
using FusedAttention.Devices;
using FusedAttention.Scores.Tracing;

namespace FusedAttention.Metal.Launching;

/// <summary>
/// One function as a Metal function: a line for each operation that something asks for, named as the operations of <c>Explain</c> are. Sums of products are multiply-adds; what is the same for all keys of a row is left to the
/// compiler, which has all keys of a tile before it.
/// </summary>
internal sealed class FunctionWriter
{
    private readonly FunctionSchedule _schedule;
    private readonly string _kind;
    private readonly StringBuilder _lines = new();
    private readonly string?[] _names;
    private readonly HashSet<string> _used = new(StringComparer.Ordinal);

    private FunctionWriter(ScoreForm form, string kind)
    {
        (_schedule, _kind) = (new(form), kind);
        _names = new string?[_schedule.Count];
    }

    /// <summary><c>score_function</c>, from a score to a score, or <c>mask_function</c>, whether a key is kept.</summary>
    /// <param name="form">What it computes.</param>
    /// <param name="isMask">Which of the two.</param>
    public static string Write(ScoreForm form, bool isMask)
    {
        var writer = new FunctionWriter(form, isMask ? "mask" : "score");
        string result = writer.Of(writer._schedule.Count - 1);

        // Parameters that the body does not name have no name, as compilers warn otherwise.
        string[] parameters =
        [
            .. isMask ? [] : (string[])[writer.Parameter("float ", "score")],
            writer.Parameter("thread const FunctionOperands &", "operands"), writer.Parameter("int ", "head"), writer.Parameter("int ", "query"), writer.Parameter("int ", "position"),
            writer.Parameter("int ", "tile"), writer.Parameter("int ", "j"), writer.Parameter("PARAMETERS", "parameters", " "),
        ];
        return string.Create(
            CultureInfo.InvariantCulture,
            $"INLINE {(isMask ? "bool" : "float")} {writer._kind}_function({string.Join(", ", parameters)})\n{{\n{writer._lines}    return {result};\n}}\n");
    }

    private string Parameter(string type, string name, string space = "") => _used.Contains(name) ? type + space + name : type.TrimEnd();

    private string Use(string name)
    {
        _used.Add(name);
        return name;
    }

    private string Of(int index) => _names[index] ??= Write(index);

    private string Write(int index)
    {
        ScoreStep step = _schedule[index];
        switch (step.Operation)
        {
            case ScoreOperation.Constant:
                return step.IsTruth ? step.Value != 0 ? "true" : "false" : Literal(step.Value);
            case ScoreOperation.Score:
                return Use("score");
        }

        string expression = Expression(step), name = string.Create(CultureInfo.InvariantCulture, $"v{index}");
        _lines.Append(CultureInfo.InvariantCulture, $"    {(step.IsTruth ? "bool" : "float")} {name} = {expression};\n");
        return name;
    }

    private string Expression(in ScoreStep step) => step.Operation switch
    {
        ScoreOperation.Parameter => Invariant($"{Use("parameters")}.{_kind}_number{step.Slot}"),
        ScoreOperation.Batch => $"float({Use("operands")}.batch)",
        ScoreOperation.Head => $"float({Use("head")})",
        ScoreOperation.Query => $"float({Use("query")})",
        ScoreOperation.Position => $"float({Use("position")})",
        ScoreOperation.Key => $"float({Use("tile")}) + float({Use("j")})",
        ScoreOperation.Add => Sum(step, "+"),
        ScoreOperation.Subtract => Sum(step, "-"),
        ScoreOperation.Multiply => $"{Of(step.First)} * {Of(step.Second)}",
        ScoreOperation.Divide => $"precise::divide({Of(step.First)}, {Of(step.Second)})",
        ScoreOperation.Remainder => $"remainder_of({Of(step.First)}, {Of(step.Second)})",
        ScoreOperation.Negate => Negative(step.First),
        ScoreOperation.Exp => $"precise::exp({Of(step.First)})",
        ScoreOperation.Log => $"precise::log({Of(step.First)})",
        ScoreOperation.Sqrt => $"precise::sqrt({Of(step.First)})",
        ScoreOperation.Abs => $"fabs({Of(step.First)})",
        ScoreOperation.Min => $"smaller_of({Of(step.First)}, {Of(step.Second)})",
        ScoreOperation.Max => $"larger_of({Of(step.First)}, {Of(step.Second)})",
        ScoreOperation.Tanh => $"precise::tanh({Of(step.First)})",
        ScoreOperation.Floor => $"floor({Of(step.First)})",
        ScoreOperation.Lookup => Lookup(step),
        ScoreOperation.Less => $"{Of(step.First)} < {Of(step.Second)}",
        ScoreOperation.LessOrEqual => $"{Of(step.First)} <= {Of(step.Second)}",
        ScoreOperation.Equal => $"{Of(step.First)} == {Of(step.Second)}",
        ScoreOperation.And => $"{Of(step.First)} && {Of(step.Second)}",
        ScoreOperation.Or => $"{Of(step.First)} || {Of(step.Second)}",
        ScoreOperation.Not => $"!{Of(step.First)}",
        ScoreOperation.Select => $"{Of(step.First)} ? {Of(step.Second)} : {Of(step.Third)}",
        _ => throw new InvalidOperationException($"{step.Operation} is no operation of a function."),
    };

    /// <summary>Distances are taken from the tile's start, or a key near it, as those of ALiBi are: exact, as positions and keys are 2^24 at most.</summary>
    private string Sum(in ScoreStep step, string symbol)
    {
        SumRule rule = _schedule.RuleOf(step);
        return rule.Form switch
        {
            SumForm.Ahead => $"float({Use("position")} - {Use("tile")}) - float({Use("j")})",
            SumForm.Behind => $"float({Use("tile")} - {Use("position")}) + float({Use("j")})",
            SumForm.MultiplyAdd =>
                $"fma({(rule.NegatesLeft ? Negative(rule.Left) : Of(rule.Left))}, {Of(rule.Right)}, {(rule.NegatesAddend ? Negative(rule.Addend) : Of(rule.Addend))})",
            _ => $"{Of(step.First)} {symbol} {Of(step.Second)}",
        };
    }

    private string Negative(int index) => _schedule[index].Operation == ScoreOperation.Constant ? Literal(-_schedule[index].Value) : "-" + Of(index);

    private string Lookup(in ScoreStep step)
    {
        string table = Invariant($"{_kind}_table{step.Slot}"), columns = $"{Use("parameters")}.{table}_columns";
        if (step.Second < 0) return $"{Use("operands")}.{table}[{Entry(step.First, columns)}]";
        return $"{Use("operands")}.{table}[{Entry(step.First, $"parameters.{table}_rows")} * {columns} + {Entry(step.Second, columns)}]";
    }

    /// <summary>The nearest entry that a table has. Calls whose heads, sequences, queries or keys are more than the entries are refused.</summary>
    private string Entry(int index, string count) => _schedule[index].Operation switch
    {
        ScoreOperation.Batch => Use("operands") + ".batch",
        ScoreOperation.Head => Use("head"),
        ScoreOperation.Query => Use("query"),
        ScoreOperation.Key => $"({Use("tile")} + {Use("j")})",
        ScoreOperation.Constant => Invariant($"min({(int)Math.Clamp(_schedule[index].Value, 0, ScoreTable.LargestExact)}, {count} - 1)"),
        _ => $"entry_of({Of(index)}, {count})",
    };

    /// <summary>The very number: the shortest digits that a compiler rounds to it. What is none is written by its bits.</summary>
    private static string Literal(float value)
    {
        if (!float.IsFinite(value)) return Invariant($"as_type<float>(0x{BitConverter.SingleToUInt32Bits(value):X8}u)");
        string digits = value.ToString("R", CultureInfo.InvariantCulture);
        if (!digits.Contains('.', StringComparison.Ordinal) && !digits.Contains('E', StringComparison.Ordinal)) digits += ".0";
        return digits[0] == '-' ? $"({digits}f)" : digits + "f";
    }

    private static string Invariant(FormattableString text) => FormattableString.Invariant(text);
}
