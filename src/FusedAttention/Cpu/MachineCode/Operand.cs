namespace FusedAttention.Cpu.MachineCode;

/// <summary>What an operand is.</summary>
internal enum OperandKind : byte
{
    None,
    Gpr64,
    Gpr32,
    Vector,
    Mask,
    Tile,
    Memory,
}

/// <summary>An operand of any kind, as forms are encoded from. Kernels write the typed ones below, which convert to it.</summary>
internal readonly struct Operand(OperandKind kind, byte number = 0, short bits = 0)
{
    public OperandKind Kind => kind;

    public byte Number => number;

    public short Bits { get; init; } = bits;

    /// <summary>What the kernel calls it.</summary>
    public string? Name { get; init; }

    /// <summary>Of memory: its base register, of which only number and name count.</summary>
    public Gpr Base { get; init; }

    /// <summary>Of memory: the register that is added <see cref="Scale"/> times; none if that is 0.</summary>
    public Gpr Index { get; init; }

    public byte Scale { get; init; }

    public int Displacement { get; init; }

    /// <summary>Of memory: one 32-bit element, repeated in all lanes.</summary>
    public bool IsBroadcast { get; init; }

    /// <summary>Of a destination: the mask register whose lanes are written; 0 for all lanes.</summary>
    public byte WriteMask { get; init; }

    /// <summary>Of a destination: lanes that the mask leaves out become 0.</summary>
    public bool IsZeroing { get; init; }

    public bool IsMemory => Kind == OperandKind.Memory;

    /// <summary>As the hardware's manuals call it.</summary>
    public string HardwareName => Kind switch
    {
        OperandKind.Gpr64 => Gpr.Names[Number],
        OperandKind.Gpr32 => Number < 8 ? $"e{Gpr.Names[Number][1..]}" : $"r{Number}d",
        OperandKind.Vector => $"{(Bits == 512 ? 'z' : Bits == 256 ? 'y' : 'x')}mm{Number}{(WriteMask == 0 ? "" : IsZeroing ? $"{{k{WriteMask}}}{{z}}" : $"{{k{WriteMask}}}")}",
        OperandKind.Mask => $"k{Number}",
        OperandKind.Tile => $"tmm{Number}",
        OperandKind.Memory => Address(static register => Gpr.Names[register.Number]),
        _ => "",
    };

    /// <summary>As the kernel calls it, or as the hardware does.</summary>
    public string KernelName => Name ?? (IsMemory ? Address(static register => register.Name ?? Gpr.Names[register.Number]) : HardwareName);

    private string Address(Func<Gpr, string> name)
    {
        string index = Scale == 0 ? "" : Scale == 1 ? $"+{name(Index)}" : $"+{name(Index)}*{Scale}";
        string displacement = Displacement == 0 ? "" : Displacement > 0 ? $"+{Displacement}" : $"{Displacement}";
        return $"[{name(Base)}{index}{displacement}]{(IsBroadcast ? "{1to16}" : "")}";
    }
}

/// <summary>A general register, whole.</summary>
internal readonly struct Gpr(byte number, string? name = null)
{
    public byte Number => number;

    public string? Name { get; init; } = name;

    public static readonly string[] Names = ["rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15"];

    /// <summary>Its lower half, which is written with zeros above.</summary>
    public Gpr32 Low => new(Number, Name);

    public static implicit operator Operand(Gpr register) => new(OperandKind.Gpr64, register.Number, 64) { Name = register.Name };

    public static Mem operator +(Gpr register, int displacement) => new(register, displacement);

    public static Mem operator -(Gpr register, int displacement) => new(register, -displacement);
}

/// <summary>The lower half of a general register.</summary>
internal readonly struct Gpr32(byte number, string? name = null)
{
    public byte Number => number;

    public string? Name => name;

    public static implicit operator Operand(Gpr32 register) => new(OperandKind.Gpr32, register.Number, 32) { Name = register.Name };
}

/// <summary>A vector register of 128, 256 or 512 bits, or as much of it.</summary>
internal readonly struct Vec(byte number, short bits, string? name = null)
{
    public byte Number => number;

    public short Bits { get; init; } = bits;

    public string? Name => name;

    private byte Mask { get; init; }

    private bool IsZeroing { get; init; }

    /// <summary>The lower part of the register.</summary>
    public Vec Lower(short bits) => this with { Bits = bits };

    /// <summary>As a destination of which only the mask's lanes are written.</summary>
    public Vec Where(KMask mask) => this with { Mask = mask.Number };

    /// <summary>As a destination whose other lanes become 0.</summary>
    public Vec OrZero(KMask mask) => this with { Mask = mask.Number, IsZeroing = true };

    public static implicit operator Operand(Vec register) =>
        new(OperandKind.Vector, register.Number, register.Bits) { Name = register.Name, WriteMask = register.Mask, IsZeroing = register.IsZeroing };
}

/// <summary>A mask register; 0 cannot mask.</summary>
internal readonly struct KMask(byte number, string? name = null)
{
    public byte Number => number;

    public string? Name => name;

    public static implicit operator Operand(KMask register) => new(OperandKind.Mask, register.Number) { Name = register.Name };
}

/// <summary>A tile register: 16 rows of 64 bytes.</summary>
internal readonly struct Tile(byte number, string? name = null)
{
    public byte Number => number;

    public string? Name => name;

    public static implicit operator Operand(Tile register) => new(OperandKind.Tile, register.Number) { Name = register.Name };
}

/// <summary>Memory at a register and a constant distance.</summary>
internal readonly struct Mem(Gpr register, int displacement = 0, string? name = null)
{
    public Gpr Base => register;

    public int Displacement { get; init; } = displacement;

    public string? Name => name;

    private Gpr Index { get; init; }

    private byte Scale { get; init; }

    private bool IsBroadcast { get; init; }

    /// <summary>A register further on, times 1, 2, 4 or 8. Of a tile it is the distance between its rows.</summary>
    public Mem Plus(Gpr index, byte scale = 1) => this with { Index = index, Scale = scale };

    /// <summary>One 32-bit element for all lanes.</summary>
    public Mem ToAllLanes() => this with { IsBroadcast = true };

    public static Mem operator +(Mem memory, int displacement) => memory with { Displacement = memory.Displacement + displacement };

    public static implicit operator Operand(Mem memory) => new(OperandKind.Memory)
    {
        Base = memory.Base, Index = memory.Index, Scale = memory.Scale, Displacement = memory.Displacement, IsBroadcast = memory.IsBroadcast, Name = memory.Name,
    };
}

/// <summary>A vector register or memory: what most instructions take as their last operand.</summary>
internal readonly struct Source(Operand operand)
{
    public Operand Operand => operand;

    public static implicit operator Source(Vec register) => new(register);

    public static implicit operator Source(Mem memory) => new(memory);
}

/// <summary>A general register or memory.</summary>
internal readonly struct Word(Operand operand)
{
    public Operand Operand => operand;

    public static implicit operator Word(Gpr register) => new(register);

    public static implicit operator Word(Mem memory) => new(memory);
}
