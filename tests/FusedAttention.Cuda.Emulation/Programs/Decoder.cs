using System.Globalization;
using System.Runtime.InteropServices;
using FusedAttention.Cuda.Emulation.Machine;
using FusedAttention.Cuda.Emulation.Memory;
using FusedAttention.Cuda.Emulation.Syntax;

namespace FusedAttention.Cuda.Emulation.Programs;

/// <summary>From statements to instructions: operands become rows, modifiers become the choice of a handler. What the emulator does not know is an error, with its line.</summary>
internal sealed unsafe partial class Decoder
{
    private readonly PtxKernelText _text;
    private readonly RegisterAllocation _registers;
    private readonly Dictionary<(ulong Bits, int Width), int> _constants = [];
    private readonly List<byte> _constantBytes = [];
    private readonly Dictionary<string, uint> _shared = new(StringComparer.Ordinal);

    public Decoder(PtxKernelText text, RegisterAllocation registers)
    {
        (_text, _registers) = (text, registers);
        uint at = SharedMemory.Base;
        foreach (PtxShared variable in text.Shared.OrderBy(static variable => variable.Bytes == 0))
        {
            at = (at + (uint)variable.Alignment - 1) / (uint)variable.Alignment * (uint)variable.Alignment;
            _shared[variable.Name] = at;
            at += (uint)variable.Bytes;
        }

        StaticSharedBytes = (int)(at - SharedMemory.Base);
    }

    /// <summary>Shared memory in front of what the launch gives.</summary>
    public int StaticSharedBytes { get; }

    /// <summary>The rows of all constants that instructions have, behind those of the registers.</summary>
    public byte[] Constants() => [.. _constantBytes];

    public Instruction Decode(PtxStatement statement, int index)
    {
        try
        {
            var instruction = new Instruction { Index = index, Line = statement.Line, D = -1, E = -1, A = -1, B = -1, C = -1, GuardFlip = statement.IsGuardNegated ? uint.MaxValue : 0 };
            if (statement.Guard is not null) instruction.Guard = PredicateOf(new NameOperand(statement.Guard));
            var opcode = new OpcodeReader(statement.Opcode);
            Handler handler = Handler(ref instruction, opcode, statement.Operands);
            opcode.End();
            instruction.Run = handler.Run;
            return instruction;
        }
        catch (CudaEmulationException failure)
        {
            throw new CudaEmulationException(string.Create(CultureInfo.InvariantCulture, $"{_text.Name}, line {statement.Line}, {statement.Opcode}: {failure.Message}"), failure);
        }
    }

    private Handler Handler(ref Instruction i, OpcodeReader opcode, Operand[] operands) => opcode.Name switch
    {
        "add" or "sub" or "mul" or "mul24" or "div" or "rem" or "min" or "max" => Arithmetic(ref i, opcode, operands),
        "mad" or "fma" => MultiplyAdd(ref i, opcode, operands),
        "neg" or "abs" or "not" or "popc" or "clz" or "brev" or "rcp" or "sqrt" or "rsqrt" or "ex2" or "lg2" or "tanh" => OfOne(ref i, opcode, operands),
        "and" or "or" or "xor" or "shl" or "shr" or "copysign" => Bitwise(ref i, opcode, operands),
        "lop3" or "prmt" or "bfe" or "bfi" or "shf" => Field(ref i, opcode, operands),
        "setp" or "selp" or "testp" => Choice(ref i, opcode, operands),
        "mov" or "cvt" or "cvta" => Move(ref i, opcode, operands),
        "ld" or "st" or "atom" or "red" or "cp" or "createpolicy" or "prefetch" => Access(ref i, opcode, operands),
        "bra" or "exit" or "ret" or "trap" or "nanosleep" => Flow(ref i, opcode, operands),
        "bar" or "barrier" or "fence" or "membar" or "griddepcontrol" or "setmaxnreg" => Order(ref i, opcode, operands),
        "shfl" or "vote" or "activemask" or "elect" or "redux" => Exchange(ref i, opcode, operands),
        "ldmatrix" or "stmatrix" or "mma" => Matrix(ref i, opcode, operands),
        "mbarrier" => Arrival(ref i, opcode, operands),
        "wgmma" => Warpgroup(ref i, opcode, operands),
        _ => throw new CudaEmulationException("the instruction is not known."),
    };

    /// <summary>The row of a source: a register, or a constant of so many bits.</summary>
    private int Source(Operand operand, PtxType type)
    {
        int width = type.Bits == 64 ? 64 : 32;
        switch (operand)
        {
            case NameOperand name when SpecialRegisters.NumberOf(name.Name) >= 0:
                throw new CudaEmulationException($"{name.Name} can only be moved.");
            case NameOperand name:
                return Row(name.Name, type);
            case IntegerOperand number:
                return Constant(type.Name is "f32" or "f64" ? throw new CudaEmulationException($"{number.Value} is no float.") : unchecked((ulong)number.Value), type.Bits == 64 ? 64 : type.Bits == 16 ? 16 : width);
            case FloatOperand number:
                return Constant(type.Bits == 32 && number.IsDouble ? BitConverter.SingleToUInt32Bits((float)BitConverter.UInt64BitsToDouble(number.Bits)) : number.Bits, width);
            default:
                throw new CudaEmulationException($"{operand} is no operand of this instruction.");
        }
    }

    private int Constant(ulong bits, int width)
    {
        if (width == 16) bits &= 0xFFFF;
        if (width == 32) bits &= uint.MaxValue;
        int size = width == 64 ? sizeof(ulong) : sizeof(uint);
        if (_constants.TryGetValue((bits, size), out int offset)) return offset;
        offset = _registers.Bytes + _constantBytes.Count;
        for (int lane = 0; lane < Lanes.Count; lane++)
            for (int b = 0; b < size; b++) _constantBytes.Add((byte)(bits >> (8 * b)));
        _constants.Add((bits, size), offset);
        return offset;
    }

    /// <summary>The row of a register whose width is that of the type.</summary>
    private int Row(string name, PtxType type)
    {
        string declared = _text.TypeOf(name) ?? throw new CudaEmulationException($"register {name} is not declared.");
        int bits = new PtxType(declared).Bits;
        if (bits != Math.Max(type.Bits, 16)) throw new CudaEmulationException($"register {name} is of type .{declared}, where .{type.Name} is expected.");
        return _registers.RowOf(name);
    }

    /// <summary>The row of a result; -1 for one that nobody wants.</summary>
    private int Result(Operand operand, PtxType type) => operand switch
    {
        SinkOperand => -1,
        NameOperand name => Row(name.Name, type),
        _ => throw new CudaEmulationException($"{operand} is no result."),
    };

    /// <summary>A row of a load's or store's element: registers may be wider than the element is in memory.</summary>
    private int Element(Operand operand, PtxType type, bool isResult)
    {
        if (operand is not NameOperand name) return isResult ? throw new CudaEmulationException($"{operand} is no result.") : Source(operand, type);
        string declared = _text.TypeOf(name.Name) ?? throw new CudaEmulationException($"register {name.Name} is not declared.");
        int bits = new PtxType(declared).Bits;
        bool fits = type.Bits >= 32 ? bits == type.Bits : bits is 16 or 32 && bits >= type.Bits;
        return fits ? _registers.RowOf(name.Name) : throw new CudaEmulationException($"register {name.Name} is of type .{declared}, where .{type.Name} is loaded or stored.");
    }

    private int PredicateOf(Operand operand)
    {
        if (operand is SinkOperand) return -1;
        if (operand is not NameOperand name || _text.TypeOf(name.Name) is not "pred") throw new CudaEmulationException($"{operand} is no predicate.");
        return _registers.PredicateOf(name.Name);
    }

    /// <summary>A predicate that is read, and whether its opposite is meant.</summary>
    private (int Predicate, uint Flip) Condition(Operand operand) => operand is NotOperand not ? (PredicateOf(new NameOperand(not.Name)), uint.MaxValue) : (PredicateOf(operand), 0);

    private static int* List(ReadOnlySpan<int> rows)
    {
        int* list = (int*)NativeMemory.Alloc((nuint)Math.Max(1, rows.Length), sizeof(int));
        rows.CopyTo(new Span<int>(list, rows.Length));
        return list;
    }

    private static void Count(Operand[] operands, int least, int most = 0)
    {
        if (operands.Length < least || operands.Length > Math.Max(least, most)) throw new CudaEmulationException($"{operands.Length} operands are {(operands.Length < least ? "too few" : "too many")}.");
    }

    private static long IntegerOf(Operand operand) => operand is IntegerOperand number ? number.Value : throw new CudaEmulationException($"{operand} is no constant.");

    /// <summary>D, A and B of one type.</summary>
    private void Operands(ref Instruction i, Operand[] operands, PtxType type, int sources)
    {
        Count(operands, sources + 1);
        i.D = Result(operands[0], type);
        i.A = Source(operands[1], type);
        i.B = sources > 1 ? Source(operands[2], type) : i.A;
        i.C = sources > 2 ? Source(operands[3], type) : -1;
    }
}
