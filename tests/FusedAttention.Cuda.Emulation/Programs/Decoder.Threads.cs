using FusedAttention.Cuda.Emulation.Machine;
using FusedAttention.Cuda.Emulation.Syntax;

namespace FusedAttention.Cuda.Emulation.Programs;

/// <content>Threads: where they go, what they tell each other, what they wait for, and what a warp computes together.</content>
internal sealed unsafe partial class Decoder
{
    private Handler Flow(ref Instruction i, OpcodeReader opcode, Operand[] operands)
    {
        switch (opcode.Name)
        {
            case "bra":
                Count(operands, 1);
                if (operands[0] is not NameOperand label || !_text.Labels.TryGetValue(label.Name, out int target)) throw new CudaEmulationException($"there is no label {operands[0]}.");
                i.Number = target;
                return opcode.Take("uni") ? FlowOperations.UniformBranch : FlowOperations.Branch;
            case "exit" or "ret":
                Count(operands, 0);
                return FlowOperations.Exit;
            case "trap":
                Count(operands, 0);
                return FlowOperations.Trap;
            default:
                Count(operands, 1);
                opcode.Type("u32");
                return FlowOperations.Nothing;
        }
    }

    private Handler Order(ref Instruction i, OpcodeReader opcode, Operand[] operands)
    {
        switch (opcode.Name)
        {
            case "fence":
                if (opcode.TakeOne("mbarrier_init") is not null) opcode.Expect("release");
                else if (opcode.Take("proxy"))
                {
                    opcode.Expect("async");
                    opcode.TakeOne("shared::cta", "global");
                    Count(operands, 0);
                    return BulkOperations.FenceProxy;
                }
                else opcode.TakeOne("sc", "acq_rel");
                opcode.TakeOne("cta", "cluster", "gpu", "sys", "shared::cta", "global");
                Count(operands, 0);
                return BarrierOperations.Fence;
            case "membar":
                opcode.Expect("cta", "gl", "sys");
                Count(operands, 0);
                return BarrierOperations.Fence;
            case "griddepcontrol":
                opcode.Expect("launch_dependents", "wait");
                Count(operands, 0);
                return BarrierOperations.Fence;
            case "setmaxnreg":
                opcode.Expect("inc", "dec");
                opcode.Expect("sync");
                opcode.Expect("aligned");
                opcode.Type("u32");
                Count(operands, 1);
                return BarrierOperations.Fence;
            default:
                return Barrier(ref i, opcode, operands);
        }
    }

    private Handler Barrier(ref Instruction i, OpcodeReader opcode, Operand[] operands)
    {
        if (opcode.Take("warp"))
        {
            opcode.Expect("sync");
            Count(operands, 1);
            i.A = Source(operands[0], new("b32"));
            return BarrierOperations.WarpSync;
        }

        opcode.Take("cta");
        string kind = opcode.Expect("sync", "arrive", "red");
        opcode.Take("aligned");
        if (kind is not "red")
        {
            Count(operands, 1, 2);
            i.A = Source(operands[0], new("u32"));
            if (operands.Length > 1) i.B = Source(operands[1], new("u32"));
            if (kind is "arrive" && i.B < 0) throw new CudaEmulationException("the number of threads is missing.");
            return kind is "sync" ? BarrierOperations.Sync : BarrierOperations.Arrive;
        }

        string gathering = opcode.Expect("popc", "and", "or");
        PtxType type = opcode.Type(gathering is "popc" ? "u32" : "pred");
        i.Number = (int)(gathering switch { "or" => BarrierGathering.Any, "and" => BarrierGathering.All, _ => BarrierGathering.Count });
        Count(operands, 3, 4);
        i.D = type.IsPredicate ? PredicateOf(operands[0]) : Result(operands[0], type);
        i.A = Source(operands[1], new("u32"));
        if (operands.Length > 3) i.B = Source(operands[2], new("u32"));
        (i.C, i.Offset) = Condition(operands[^1]);
        return BarrierOperations.Sync;
    }

    private Handler Exchange(ref Instruction i, OpcodeReader opcode, Operand[] operands)
    {
        if (opcode.Name is "activemask")
        {
            Count(operands, 1);
            i.D = Result(operands[0], opcode.Type("b32"));
            return ShuffleOperations.ActiveMask;
        }

        opcode.Expect("sync");
        if (opcode.Name is "elect")
        {
            Count(operands, 2);
            if (operands[0] is not PairOperand elected) throw new CudaEmulationException("two results are expected.");
            (i.D, i.E) = (Result(elected.First, new("b32")), PredicateOf(elected.Second));
            i.Rows = List([Source(operands[1], new("b32"))]);
            return ShuffleOperations.Elect;
        }

        if (opcode.Name is "vote")
        {
            string vote = opcode.Expect("any", "all", "uni", "ballot");
            PtxType result = opcode.Type(vote is "ballot" ? "b32" : "pred");
            Count(operands, 3);
            i.D = result.IsPredicate ? PredicateOf(operands[0]) : Result(operands[0], result);
            (i.A, i.Offset) = Condition(operands[1]);
            i.Rows = List([Source(operands[2], new("b32"))]);
            return vote switch { "any" => ShuffleOperations.Any, "all" => ShuffleOperations.All, "uni" => ShuffleOperations.Uniform, _ => ShuffleOperations.Ballot };
        }

        if (opcode.Name is "redux")
        {
            string operation = opcode.Expect("add", "min", "max", "and", "or", "xor");
            PtxType of = opcode.Type("u32", "s32", "b32");
            Count(operands, 3);
            (i.D, i.A) = (Result(operands[0], of), Source(operands[1], of));
            i.Rows = List([Source(operands[2], new("b32"))]);
            return (operation, of.IsSigned) switch
            {
                ("add", _) => ShuffleOperations.ReduceAdd,
                ("min", false) => ShuffleOperations.ReduceMin,
                ("min", true) => ShuffleOperations.ReduceSignedMin,
                ("max", false) => ShuffleOperations.ReduceMax,
                ("max", true) => ShuffleOperations.ReduceSignedMax,
                ("and", _) => ShuffleOperations.ReduceAnd,
                ("or", _) => ShuffleOperations.ReduceOr,
                _ => ShuffleOperations.ReduceXor,
            };
        }

        i.Number = (int)(opcode.Expect("up", "down", "bfly", "idx") switch { "up" => ShuffleKind.Up, "down" => ShuffleKind.Down, "bfly" => ShuffleKind.Butterfly, _ => ShuffleKind.Index });
        PtxType type = opcode.Type("b32");
        Count(operands, 5);
        if (operands[0] is PairOperand pair) (i.D, i.E) = (Result(pair.First, type), PredicateOf(pair.Second));
        else i.D = Result(operands[0], type);
        (i.A, i.B, i.C) = (Source(operands[1], type), Source(operands[2], type), Source(operands[3], type));
        i.Rows = List([Source(operands[4], type)]);
        if (i.Number != (int)ShuffleKind.Butterfly || operands is not [_, _, IntegerOperand { Value: >= 0 and < 32 } by, IntegerOperand { Value: 31 }, IntegerOperand { Value: uint.MaxValue }]) return ShuffleOperations.Shuffle;
        i.Count = (int)by.Value;
        return ShuffleOperations.Butterfly;
    }

    private Handler Matrix(ref Instruction i, OpcodeReader opcode, Operand[] operands)
    {
        opcode.Expect("sync");
        opcode.Expect("aligned");
        if (opcode.Name is "mma") return MatrixProduct(ref i, opcode, operands);
        opcode.Expect("m8n8");
        i.Count = opcode.Expect("x1", "x2", "x4") switch { "x1" => 1, "x2" => 2, _ => 4 };
        bool isTransposed = opcode.Take("trans"), isLoad = opcode.Name is "ldmatrix";
        opcode.Expect("shared", "shared::cta");
        opcode.Type("b16");
        Count(operands, 2);
        Address(ref i, operands[isLoad ? 1 : 0], Space.Shared);
        if (i.A < 0) throw new CudaEmulationException("addresses of matrices are registers.");
        Operand[] registers = Registers(operands[isLoad ? 0 : 1], i.Count);
        i.Rows = List([.. registers.Select(register => Whole(register, new("b32")))]);
        return (isLoad, isTransposed) switch
        {
            (true, false) => MatrixOperations.Load,
            (true, true) => MatrixOperations.LoadTransposed,
            (false, false) => MatrixOperations.Store,
            _ => MatrixOperations.StoreTransposed,
        };
    }

    private Handler MatrixProduct(ref Instruction i, OpcodeReader opcode, Operand[] operands)
    {
        opcode.Expect("m16n8k16");
        opcode.Expect("row");
        opcode.Expect("col");
        opcode.Type("f32");
        PtxType factor = opcode.Type("f16", "bf16");
        opcode.Type(factor.Name);
        PtxType sum = opcode.Type("f32"), pair = new("b32");
        Count(operands, 4);
        i.Rows = List(
        [
            .. Registers(operands[0], 4).Select(register => Whole(register, sum)), .. Registers(operands[1], 4).Select(register => Whole(register, pair)),
            .. Registers(operands[2], 2).Select(register => Whole(register, pair)), .. Registers(operands[3], 4).Select(register => Source(register, sum)),
        ]);
        return factor.Name is "f16" ? MatrixOperations.MultiplyAdd<Binary16>() : MatrixOperations.MultiplyAdd<BrainFloat16>();
    }

    /// <summary>The row of a register that is part of a matrix.</summary>
    private int Whole(Operand operand, PtxType type) => operand is NameOperand name ? Row(name.Name, type) : throw new CudaEmulationException($"{operand} is no register.");

    private static Operand[] Registers(Operand operand, int count)
    {
        Operand[] registers = operand is VectorOperand vector ? vector.Elements : [operand];
        Count(registers, count);
        return registers;
    }
}
