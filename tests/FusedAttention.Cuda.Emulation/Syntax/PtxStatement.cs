namespace FusedAttention.Cuda.Emulation.Syntax;

/// <summary>One instruction as it is written.</summary>
/// <param name="Line">Of the text, from 1.</param>
/// <param name="Guard">The predicate in front of it; null without.</param>
/// <param name="IsGuardNegated">Whether it runs where the predicate does not hold.</param>
/// <param name="Opcode">With all modifiers.</param>
/// <param name="Operands">In order.</param>
internal sealed record PtxStatement(int Line, string? Guard, bool IsGuardNegated, string Opcode, Operand[] Operands);

/// <summary>A parameter of an entry.</summary>
/// <param name="Name">As instructions name it.</param>
/// <param name="Offset">Among the bytes of all parameters.</param>
/// <param name="Bytes">How many it has.</param>
internal sealed record PtxParameter(string Name, int Offset, int Bytes);

/// <summary>A variable in shared memory.</summary>
/// <param name="Name">As instructions name it.</param>
/// <param name="Alignment">Of its address.</param>
/// <param name="Bytes">How many; 0 for what a launch has beyond what is declared.</param>
internal sealed record PtxShared(string Name, int Alignment, int Bytes);

/// <summary>A range or a single register.</summary>
/// <param name="Type">As it is declared, <c>b32</c>.</param>
/// <param name="Count">How many have the name and a number behind it; -1 for one without a number.</param>
internal readonly record struct PtxRegister(string Type, int Count);

/// <summary>One entry of a module, as it is written.</summary>
internal sealed class PtxKernelText
{
    public required string Name { get; init; }

    public required string Target { get; init; }

    public List<PtxParameter> Parameters { get; } = [];

    public List<PtxShared> Shared { get; } = [];

    public Dictionary<string, PtxRegister> Registers { get; } = new(StringComparer.Ordinal);

    public List<PtxStatement> Statements { get; } = [];

    /// <summary>The number of the statement behind each label.</summary>
    public Dictionary<string, int> Labels { get; } = new(StringComparer.Ordinal);

    /// <summary>Threads of a block that the text asks for; 0 where it does not.</summary>
    public int RequiredThreads { get; set; }

    /// <summary>Threads of a block that the text allows; 0 where it does not say.</summary>
    public int MostThreads { get; set; }

    public int ParameterBytes => Parameters.Count == 0 ? 0 : Parameters[^1].Offset + Parameters[^1].Bytes;

    /// <summary>The declared type of a register, or null where there is none of that name.</summary>
    public string? TypeOf(string name)
    {
        if (Registers.TryGetValue(name, out PtxRegister own) && own.Count < 0) return own.Type;
        int digits = name.Length;
        while (digits > 0 && char.IsAsciiDigit(name[digits - 1])) digits--;
        if (digits == name.Length) return null;
        string prefix = name[..digits];
        return Registers.TryGetValue(prefix, out PtxRegister range) && int.TryParse(name.AsSpan(digits), out int number) && number < range.Count ? range.Type : null;
    }
}
