using FusedAttention.Cuda.Emulation.Syntax;

namespace FusedAttention.Cuda.Emulation.Programs;

/// <summary>Which registers a statement reads and which it writes, by the form of the language: the first operand is the result, but for instructions that have none.</summary>
internal static class StatementRoles
{
    public static IEnumerable<string> Written(PtxStatement statement) =>
        HasResult(statement.Opcode) && statement.Operands.Length > 0 ? Names(statement.Operands[0]) : [];

    public static IEnumerable<string> Read(PtxStatement statement)
    {
        IEnumerable<string> read = statement.Operands.Skip(HasResult(statement.Opcode) ? 1 : 0).SelectMany(Names);

        // Sums of asynchronous products are read where they are written, if they are added to; and what a guard lets stand is still there.
        if (statement.Opcode.StartsWith("wgmma.mma_async", StringComparison.Ordinal) && statement.Operands is not [_, _, _, IntegerOperand { Value: 0 }, ..]) read = read.Concat(Names(statement.Operands[0]));
        if (statement.Guard is not null) read = read.Append(statement.Guard).Concat(Written(statement));
        return read;
    }

    private static bool HasResult(string opcode)
    {
        int dot = opcode.IndexOf('.', StringComparison.Ordinal);
        string name = dot < 0 ? opcode : opcode[..dot];
        return name switch
        {
            "st" or "red" or "bra" or "exit" or "ret" or "trap" or "cp" or "prefetch" or "fence" or "membar" or "wgmma" or "setmaxnreg" or "griddepcontrol" or "stmatrix" or "nanosleep" => opcode.StartsWith("wgmma.mma_async", StringComparison.Ordinal),
            "bar" or "barrier" => opcode.Contains(".red.", StringComparison.Ordinal),
            "mbarrier" => opcode.Contains(".arrive", StringComparison.Ordinal) || opcode.Contains("_wait", StringComparison.Ordinal),
            _ => true,
        };
    }

    private static IEnumerable<string> Names(Operand operand) => operand switch
    {
        NameOperand name => [name.Name],
        NotOperand name => [name.Name],
        VectorOperand vector => vector.Elements.SelectMany(Names),
        AddressOperand address => Names(address.Base).Concat(address.Coordinates is null ? [] : address.Coordinates.SelectMany(Names)),
        PairOperand pair => Names(pair.First).Concat(Names(pair.Second)),
        _ => [],
    };
}
