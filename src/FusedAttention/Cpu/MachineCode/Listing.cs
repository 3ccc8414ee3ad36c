using System.Globalization;
using System.Text;

namespace FusedAttention.Cpu.MachineCode;

/// <summary>A kernel as text: place, instruction with the hardware's names, and behind it the kernel's own names.</summary>
internal static class Listing
{
    public static string Of(Assembler kernel)
    {
        var text = new StringBuilder().Append(CultureInfo.InvariantCulture, $"{kernel.Name}:\n");
        foreach (Line line in kernel.Lines)
        {
            if (line.Form is null)
            {
                text.Append(CultureInfo.InvariantCulture, $"{line.Label!.Name}:\n");
                continue;
            }

            string hardware = Instruction(line, static operand => operand.HardwareName);
            string own = Operands(line, static operand => operand.KernelName);
            text.Append(CultureInfo.InvariantCulture, $"  {line.Offset:x4}  {(string.Equals(own, Operands(line, static operand => operand.HardwareName), StringComparison.Ordinal) ? hardware : $"{hardware,-56}; {own}")}\n");
        }

        return text.ToString();
    }

    /// <summary>One instruction, with the hardware's names.</summary>
    public static string Of(Line line) => Instruction(line, static operand => operand.HardwareName);

    private static string Instruction(Line line, Func<Operand, string> name) => $"{line.Form!.Name} {Operands(line, name)}".TrimEnd();

    private static string Operands(Line line, Func<Operand, string> name)
    {
        if (line.Label is { } label) return label.Name;
        IEnumerable<string> operands = new[] { line.A, line.B, line.C }.Where(static operand => operand.Kind != OperandKind.None).Select(name);
        if (line.Form!.Immediate > 0) operands = operands.Append($"{line.Immediate}");
        return string.Join(", ", operands);
    }
}
