namespace FusedAttention.Cpu.MachineCode;

/// <summary>The table of opcodes that an opcode belongs to; the number is that of VEX and EVEX prefixes.</summary>
internal enum OpcodeMap : byte
{
    OneByte = 0,
    Map0F = 1,
    Map0F38 = 2,
    Map0F3A = 3,
}

/// <summary>The mandatory prefix; the number is that of VEX and EVEX prefixes.</summary>
internal enum OpcodePrefix : byte
{
    None = 0,
    P66 = 1,
    PF3 = 2,
    PF2 = 3,
}

/// <summary>Which prefixes a form has: the old ones, VEX, EVEX or either of the two.</summary>
[Flags]
internal enum Spaces : byte
{
    Legacy = 0,
    Vex = 1,
    Evex = 2,
}

/// <summary>Where the operands go, in the order in which they are written: the field "reg", the field "rm" (register or memory) and the prefix's "vvvv".</summary>
internal enum Roles : byte
{
    None,
    Reg,
    RegRm,
    RmReg,
    RegVvvvRm,
    RegRmVvvv,

    /// <summary>The field "reg" is part of the opcode.</summary>
    Rm,

    /// <inheritdoc cref="Rm"/>
    VvvvRm,

    /// <summary>A jump's distance of 32 bits.</summary>
    Target,
}

/// <summary>How much memory an EVEX form reads or writes, which one-byte displacements count in.</summary>
internal enum MemorySize : byte
{
    Vector,

    /// <summary>A vector, or one element of 32 bits that is repeated.</summary>
    VectorOrElement,
    Half,
    Quarter,
    Bytes16,
    Bytes4,
}

/// <summary>An instruction form: all that its encoding has beside the operands.</summary>
internal sealed class Form(string name, Spaces spaces, OpcodePrefix prefix, OpcodeMap map, byte opcode, Roles roles)
{
    public string Name => name;

    public Spaces Spaces => spaces;

    public OpcodePrefix Prefix => prefix;

    public OpcodeMap Map => map;

    public byte Opcode => opcode;

    public Roles Roles => roles;

    /// <summary>The bit that widens general registers to 64 bits, and of EVEX forms tells elements of 64 bits; no VEX form here sets it.</summary>
    public bool IsWide { get; init; }

    public MemorySize Memory { get; init; }

    /// <summary>The part of the opcode in the field "reg".</summary>
    public byte Digit { get; init; }

    /// <summary>Bytes of the immediate operand.</summary>
    public byte Immediate { get; init; }

    /// <summary>A byte after the opcode that is part of it, where there are no operands.</summary>
    public byte? Suffix { get; init; }

    /// <summary>Memory takes the form with an index even without one: tiles.</summary>
    public bool NeedsIndexByte { get; init; }
}
