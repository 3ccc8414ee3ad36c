using FusedAttention.Cuda.Emulation.Machine;
using FusedAttention.Cuda.Emulation.Syntax;

namespace FusedAttention.Cuda.Emulation.Programs;

/// <content>What came with compute capability 9.0: barriers in shared memory, the copy engine, products of warpgroups.</content>
internal sealed unsafe partial class Decoder
{
    private Handler Arrival(ref Instruction i, OpcodeReader opcode, Operand[] operands)
    {
        PtxType count = new("u32");
        string operation = opcode.Expect("init", "inval", "arrive", "expect_tx", "try_wait", "test_wait");
        bool expects = operation is "arrive" && opcode.Take("expect_tx"), isWait = operation.EndsWith("_wait", StringComparison.Ordinal);
        if (isWait) opcode.Expect("parity");
        opcode.TakeOne("relaxed", "release", "acquire");
        opcode.TakeOne("cta", "cluster");
        opcode.Expect("shared", "shared::cta");
        opcode.Type("b64");
        switch (operation)
        {
            case "init":
                Count(operands, 2);
                Address(ref i, operands[0], Space.Shared);
                i.B = Source(operands[1], count);
                return ArrivalOperations.Initialize;
            case "inval":
                Count(operands, 1);
                Address(ref i, operands[0], Space.Shared);
                return ArrivalOperations.Invalidate;
            case "expect_tx":
                Count(operands, 2);
                Address(ref i, operands[0], Space.Shared);
                i.B = Source(operands[1], count);
                return ArrivalOperations.Expect;
            case "arrive":
                Count(operands, expects ? 3 : 2, 3);
                if (operands[0] is not SinkOperand) throw new CudaEmulationException("the state of a phase is not known.");
                Address(ref i, operands[1], Space.Shared);
                if (operands.Length > 2) i.B = Source(operands[2], count);
                return expects ? ArrivalOperations.ArriveExpecting : ArrivalOperations.Arrive;
            default:
                Count(operands, 3);
                i.D = PredicateOf(operands[0]);
                Address(ref i, operands[1], Space.Shared);
                i.B = Source(operands[2], count);
                return ArrivalOperations.HasEnded;
        }
    }

    private Handler Bulk(ref Instruction i, OpcodeReader opcode, Operand[] operands)
    {
        if (opcode.Take("commit_group"))
        {
            Count(operands, 0);
            return BulkOperations.Commit;
        }

        if (opcode.Take("wait_group"))
        {
            opcode.Take("read");
            Count(operands, 1);
            i.Number = (int)IntegerOf(operands[0]);
            return BulkOperations.Wait;
        }

        int rank = opcode.Take("tensor") ? opcode.Expect("1d", "2d", "3d", "4d", "5d")[0] - '0' : 0;
        bool isLoad = opcode.Expect("shared::cluster", "shared::cta", "global") is not "global";
        opcode.Expect(isLoad ? "global" : "shared::cta");
        opcode.Take("tile");
        if (isLoad) opcode.Expect("mbarrier::complete_tx::bytes");
        else opcode.Expect("bulk_group");
        bool hasPolicy = opcode.Take("L2::cache_hint");
        int bytes = rank == 0 ? 1 : 0;
        Count(operands, 2 + (isLoad ? 1 : 0) + bytes + (hasPolicy ? 1 : 0));
        if (hasPolicy) Source(operands[^1], new("b64"));
        (Operand shared, Operand device) = isLoad ? (operands[0], operands[1]) : (operands[1], operands[0]);
        (i.A, i.Offset) = Address(shared, Space.Shared);
        if (rank > 0)
        {
            if (device is not AddressOperand { Base: NameOperand map, Offset: 0, Coordinates: { } coordinates } || coordinates.Length != rank) throw new CudaEmulationException($"a tensor map and {rank} coordinates are expected.");
            i.B = Row(map.Name, new("b64"));
            i.Rows = List([.. coordinates.Select(coordinate => Source(coordinate, new("s32")))]);
        }
        else
        {
            (i.B, long offset) = Address(device, Space.Global);
            if (offset != 0) throw new CudaEmulationException("an offset of the device address is not known.");
            i.Rows = List([Source(operands[2], new("u32"))]);
        }

        i.Count = rank;
        if (isLoad)
        {
            (i.C, long barrier) = Address(operands[2 + bytes], Space.Shared);
            i.Number = checked((int)barrier);
        }

        if (i.A < 0 || i.B < 0 || (isLoad && i.C < 0)) throw new CudaEmulationException("addresses of copies are registers.");
        return isLoad ? BulkOperations.Load : BulkOperations.Store;
    }

    private Handler Warpgroup(ref Instruction i, OpcodeReader opcode, Operand[] operands)
    {
        string operation = opcode.Expect("fence", "commit_group", "wait_group", "mma_async");
        opcode.Expect("sync");
        opcode.Expect("aligned");
        switch (operation)
        {
            case "fence":
                Count(operands, 0);
                return WarpgroupOperations.Fence;
            case "commit_group":
                Count(operands, 0);
                return WarpgroupOperations.Commit;
            case "wait_group":
                Count(operands, 1);
                i.Number = (int)IntegerOf(operands[0]);
                return WarpgroupOperations.Wait;
            default:
                return WarpgroupProduct(ref i, opcode, operands);
        }
    }

    private Handler WarpgroupProduct(ref Instruction i, OpcodeReader opcode, Operand[] operands)
    {
        string shape = opcode.TakeBeginning("m64n") ?? throw new CudaEmulationException("a shape m64nNk16 is expected.");
        if (!shape.EndsWith("k16", StringComparison.Ordinal) || !int.TryParse(shape.AsSpan(4, shape.Length - 7), out int columns) || columns % 8 != 0 || columns is < 8 or > 256)
            throw new CudaEmulationException($"shape {shape} is not known.");
        PtxType sum = opcode.Type("f32"), factor = opcode.Type("f16", "bf16");
        opcode.Type(factor.Name);
        bool isInRegisters = operands.Length > 1 && operands[1] is VectorOperand;
        Count(operands, isInRegisters ? 7 : 8);
        i.Count = columns / 2;
        List<int> rows = [.. Registers(operands[0], i.Count).Select(register => Whole(register, sum))];
        if (isInRegisters) rows.AddRange(Registers(operands[1], 4).Select(register => Whole(register, new("b32"))));
        else i.A = Source(operands[1], new("b64"));
        i.Rows = List([.. rows]);
        i.B = Source(operands[2], new("b64"));
        if (operands[3] is IntegerOperand adds) i.Offset = adds.Value;
        else i.C = PredicateOf(operands[3]);
        if (IntegerOf(operands[4]) != 1 || IntegerOf(operands[5]) != 1) throw new CudaEmulationException("negated factors are not known.");
        if (!isInRegisters) i.Number |= (int)IntegerOf(operands[6]);
        i.Number |= (int)IntegerOf(operands[^1]) << 1;
        if (factor.Name is "bf16") i.Number |= 4;
        return WarpgroupOperations.Multiply;
    }
}
