using FusedAttention.Cuda.Emulation.Machine;
using FusedAttention.Cuda.Emulation.Syntax;

namespace FusedAttention.Cuda.Emulation.Programs;

/// <content>Memory.</content>
internal sealed unsafe partial class Decoder
{
    private Handler Access(ref Instruction i, OpcodeReader opcode, Operand[] operands) => opcode.Name switch
    {
        "ld" => Load(ref i, opcode, operands),
        "st" => Store(ref i, opcode, operands),
        "atom" or "red" => Atomic(ref i, opcode, operands),
        "cp" => Copy(ref i, opcode, operands),
        "createpolicy" => Policy(ref i, opcode, operands),
        _ => Prefetch(opcode, operands),
    };

    /// <summary>Order, space and what is said to the caches: an order is kept anyway, since what a warp does is done at once.</summary>
    private static Space SpaceOf(OpcodeReader opcode)
    {
        opcode.TakeOne("weak", "volatile", "relaxed", "acquire", "release", "acq_rel");
        opcode.TakeOne("cta", "cluster", "gpu", "sys");
        Space space = opcode.TakeOne("global", "param", "shared", "shared::cta") switch { "global" => Space.Global, "param" => Space.Parameter, "shared" or "shared::cta" => Space.Shared, _ => Space.Any };
        opcode.TakeOne("ca", "cg", "cs", "lu", "cv", "wb", "wt");
        opcode.Take("nc");
        opcode.TakeBeginning("L1::");
        return space;
    }

    /// <summary>A hint's policy is one operand more.</summary>
    private static bool TakeHints(OpcodeReader opcode)
    {
        bool hasPolicy = opcode.Take("L2::cache_hint");
        opcode.TakeOne("L2::64B", "L2::128B", "L2::256B");
        return hasPolicy;
    }

    private Handler Load(ref Instruction i, OpcodeReader opcode, Operand[] operands)
    {
        Space space = SpaceOf(opcode);
        bool hasPolicy = TakeHints(opcode);
        i.Count = VectorLength(opcode);
        PtxType type = opcode.Type();
        Count(operands, hasPolicy ? 3 : 2);
        if (hasPolicy) Source(operands[2], new("b64"));
        Elements(ref i, operands[0], type, isResult: true);
        Address(ref i, operands[1], space);
        return space switch { Space.Global => MemoryOperations.LoadGlobal, Space.Shared => MemoryOperations.LoadShared, Space.Parameter => MemoryOperations.LoadParameter, _ => MemoryOperations.LoadAny };
    }

    private Handler Store(ref Instruction i, OpcodeReader opcode, Operand[] operands)
    {
        Space space = SpaceOf(opcode);
        bool hasPolicy = TakeHints(opcode);
        i.Count = VectorLength(opcode);
        PtxType type = opcode.Type();
        Count(operands, hasPolicy ? 3 : 2);
        Elements(ref i, operands[1], type, isResult: false);
        Address(ref i, operands[0], space);
        return space switch { Space.Global => MemoryOperations.StoreGlobal, Space.Shared => MemoryOperations.StoreShared, Space.Any => MemoryOperations.StoreAny, _ => throw new CudaEmulationException("parameters cannot be written.") };
    }

    private static int VectorLength(OpcodeReader opcode) => opcode.TakeOne("v2", "v4") switch { "v2" => 2, "v4" => 4, _ => 1 };

    private void Elements(ref Instruction i, Operand operand, PtxType type, bool isResult)
    {
        Operand[] elements = operand is VectorOperand vector ? vector.Elements : [operand];
        Count(elements, i.Count);
        if (i.Count * type.Bits > 128) throw new CudaEmulationException("a vector has 128 bits at most.");
        int[] rows = new int[elements.Length];
        for (int n = 0; n < rows.Length; n++) rows[n] = Element(elements[n], type, isResult);
        i.Rows = List(rows);
        i.Bytes = type.Bits / 8;
        i.Number = type.IsSigned ? 1 : 0;
    }

    /// <summary>The row of an address and what is added to it; without a row, all of it.</summary>
    private void Address(ref Instruction i, Operand operand, Space space) => (i.A, i.Offset) = Address(operand, space);

    private (int Row, long Offset) Address(Operand operand, Space space)
    {
        if (operand is not AddressOperand { Coordinates: null } address) throw new CudaEmulationException($"{operand} is no address.");
        switch (address.Base)
        {
            case IntegerOperand number:
                return (-1, number.Value + address.Offset);
            case NameOperand name when space == Space.Parameter:
                PtxParameter parameter = _text.Parameters.Find(parameter => string.Equals(parameter.Name, name.Name, StringComparison.Ordinal)) ?? throw new CudaEmulationException($"there is no parameter {name.Name}.");
                if (address.Offset < 0 || address.Offset >= parameter.Bytes) throw new CudaEmulationException($"parameter {name.Name} has {parameter.Bytes} bytes.");
                return (-1, parameter.Offset + address.Offset);
            case NameOperand name when space == Space.Shared && _shared.TryGetValue(name.Name, out uint at):
                return (-1, at + address.Offset);
            case NameOperand name:
                return (Row(name.Name, new(space == Space.Shared ? "b32" : "b64")), address.Offset);
            default:
                throw new CudaEmulationException($"{operand} is no address.");
        }
    }

    private Handler Atomic(ref Instruction i, OpcodeReader opcode, Operand[] operands)
    {
        bool returns = opcode.Name is "atom";
        opcode.TakeOne("relaxed", "acquire", "release", "acq_rel");
        opcode.TakeOne("cta", "cluster", "gpu", "sys");
        Space space = opcode.TakeOne("global", "shared", "shared::cta") is "shared" or "shared::cta" ? Space.Shared : Space.Global;
        string operation = opcode.Expect("add", "min", "max", "and", "or", "xor", "exch", "cas", "inc");
        PtxType type = opcode.Type("u32", "s32", "b32", "f32", "u64", "s64", "b64");
        int first = returns ? 1 : 0;
        Count(operands, first + (operation is "cas" ? 3 : 2));
        if (returns) i.D = Result(operands[0], type);
        Address(ref i, operands[first], space);
        i.B = Source(operands[first + 1], type);
        if (operation is "cas") i.C = Source(operands[first + 2], type);
        i.Count = (int)space;
        i.Number = (int)((operation, type.IsSigned) switch
        {
            ("add", _) => type.IsFloat ? AtomicKind.AddFloat : AtomicKind.Add,
            ("min", false) => AtomicKind.Min,
            ("min", true) => AtomicKind.SignedMin,
            ("max", false) => AtomicKind.Max,
            ("max", true) => AtomicKind.SignedMax,
            ("and", _) => AtomicKind.And,
            ("or", _) => AtomicKind.Or,
            ("xor", _) => AtomicKind.Xor,
            ("exch", _) => AtomicKind.Exchange,
            ("cas", _) => AtomicKind.CompareAndSwap,
            _ => AtomicKind.Increment,
        });
        if (type.IsFloat && operation is not "add") throw Unknown(type);
        return type.Bits == 64 ? AtomicOperations.WideAtomic : AtomicOperations.Atomic;
    }

    private Handler Copy(ref Instruction i, OpcodeReader opcode, Operand[] operands)
    {
        opcode.Expect("async");
        if (opcode.Take("bulk")) return Bulk(ref i, opcode, operands);
        if (opcode.Take("commit_group"))
        {
            Count(operands, 0);
            return MemoryOperations.CommitCopies;
        }

        if (opcode.Take("wait_group"))
        {
            Count(operands, 1);
            i.Number = (int)IntegerOf(operands[0]);
            return MemoryOperations.WaitForCopies;
        }

        if (opcode.Take("wait_all"))
        {
            Count(operands, 0);
            return MemoryOperations.WaitForAllCopies;
        }

        if (opcode.Take("mbarrier"))
        {
            opcode.Expect("arrive");
            opcode.Expect("noinc");
            opcode.Expect("shared", "shared::cta");
            opcode.Type("b64");
            Count(operands, 1);
            Address(ref i, operands[0], Space.Shared);
            return ArrivalOperations.ArriveBehindCopies;
        }

        bool isCached = opcode.Expect("ca", "cg") is "ca";
        opcode.Expect("shared", "shared::cta");
        opcode.Expect("global");
        bool hasPolicy = TakeHints(opcode);
        Count(operands, hasPolicy ? 4 : 3, hasPolicy ? 5 : 4);
        (i.A, i.Offset) = Address(operands[0], Space.Shared);
        (i.B, long from) = Address(operands[1], Space.Global);
        i.Number = checked((int)from);
        i.Bytes = (int)IntegerOf(operands[2]);
        if (i.Bytes != 16 && !(isCached && i.Bytes is 4 or 8)) throw new CudaEmulationException($"{i.Bytes} bytes cannot be copied.");
        if (operands.Length - (hasPolicy ? 1 : 0) == 4) i.C = Source(operands[3], new("u32"));
        if (i.A < 0 || i.B < 0) throw new CudaEmulationException("addresses of copies are registers.");
        if (hasPolicy) Source(operands[^1], new("b64"));
        return MemoryOperations.CopyAsync;
    }

    /// <summary>What the second-level cache does with lines changes nothing here; the register gets a number that says so.</summary>
    private Handler Policy(ref Instruction i, OpcodeReader opcode, Operand[] operands)
    {
        opcode.Expect("fractional");
        opcode.Expect("L2::evict_last", "L2::evict_normal", "L2::evict_first", "L2::evict_unchanged");
        PtxType type = opcode.Type("b64");
        Count(operands, 1, 2);
        i.D = Result(operands[0], type);
        i.A = Constant(0x12F0000000000000, 64);
        return LaneOperations.WideUnary<WideIntegers.Move>();
    }

    private static Handler Prefetch(OpcodeReader opcode, Operand[] operands)
    {
        if (!opcode.Take("tensormap"))
        {
            opcode.Expect("global");
            opcode.Expect("L1", "L2", "L2::evict_last", "L2::evict_normal");
        }

        Count(operands, 1);
        return FlowOperations.Nothing;
    }
}
