using FusedAttention.Cuda.Emulation.Machine;
using FusedAttention.Cuda.Emulation.Syntax;
using static FusedAttention.Cuda.Emulation.Machine.LaneOperations;

namespace FusedAttention.Cuda.Emulation.Programs;

/// <content>Numbers.</content>
internal sealed unsafe partial class Decoder
{
    private Handler Arithmetic(ref Instruction i, OpcodeReader opcode, Operand[] operands)
    {
        string? part = opcode.Name is "mul" ? opcode.TakeOne("lo", "hi", "wide") : null;
        string? accuracy = opcode.TakeOne("rn", "rz", "rm", "rp", "approx", "full");
        bool isFlushed = opcode.Take("ftz");
        bool keepsNaN = opcode.Take("NaN"), isSaturated = opcode.Take("sat");
        PtxType type = opcode.Type();
        if (part is "wide")
        {
            Count(operands, 3);
            i.D = Result(operands[0], new(type.IsSigned ? "s64" : "u64"));
            (i.A, i.B) = (Source(operands[1], type), Source(operands[2], type));
            return type.Name switch
            {
                "s32" => Widening<Widenings.SignedMultiply>(),
                "u32" => Widening<Widenings.Multiply>(),
                _ => throw Unknown(type),
            };
        }

        Operands(ref i, operands, type, 2);
        if (type.IsPacked) return Packed(opcode, type);
        if (type.Name is "f32") return Float(opcode, accuracy, isFlushed, keepsNaN, isSaturated);
        if (accuracy is not null || isFlushed || keepsNaN || isSaturated || type.IsFloat) throw Unknown(type);
        bool isWide = type.Bits == 64;
        if (type.Bits is not (32 or 64)) throw Unknown(type);
        return (opcode.Name, part, type.IsSigned, isWide) switch
        {
            ("add", null, _, false) => Binary<Integers.Add>(),
            ("add", null, _, true) => WideBinary<WideIntegers.Add>(),
            ("sub", null, _, false) => Binary<Integers.Subtract>(),
            ("sub", null, _, true) => WideBinary<WideIntegers.Subtract>(),
            ("mul", "lo", _, false) => Binary<Integers.Multiply>(),
            ("mul", "lo", _, true) => WideBinary<WideIntegers.Multiply>(),
            ("mul", "hi", false, false) => Scalar<ScalarIntegers.MultiplyHigh, uint, uint, uint>(),
            ("mul", "hi", true, false) => Scalar<ScalarIntegers.SignedMultiplyHigh, int, int, int>(),
            ("mul", "hi", false, true) => Scalar<ScalarIntegers.WideMultiplyHigh, ulong, ulong, ulong>(),
            ("mul", "hi", true, true) => Scalar<ScalarIntegers.WideSignedMultiplyHigh, long, long, long>(),
            ("min", null, false, false) => Binary<Integers.Min>(),
            ("min", null, true, false) => Binary<Integers.SignedMin>(),
            ("min", null, false, true) => WideBinary<WideIntegers.Min>(),
            ("min", null, true, true) => WideBinary<WideIntegers.SignedMin>(),
            ("max", null, false, false) => Binary<Integers.Max>(),
            ("max", null, true, false) => Binary<Integers.SignedMax>(),
            ("max", null, false, true) => WideBinary<WideIntegers.Max>(),
            ("max", null, true, true) => WideBinary<WideIntegers.SignedMax>(),
            ("div", null, false, false) => Scalar<ScalarIntegers.Divide, uint, uint, uint>(),
            ("div", null, true, false) => Scalar<ScalarIntegers.SignedDivide, int, int, int>(),
            ("div", null, false, true) => Scalar<ScalarIntegers.WideDivide, ulong, ulong, ulong>(),
            ("div", null, true, true) => Scalar<ScalarIntegers.WideSignedDivide, long, long, long>(),
            ("rem", null, false, false) => Scalar<ScalarIntegers.Remainder, uint, uint, uint>(),
            ("rem", null, true, false) => Scalar<ScalarIntegers.SignedRemainder, int, int, int>(),
            ("rem", null, false, true) => Scalar<ScalarIntegers.WideRemainder, ulong, ulong, ulong>(),
            ("rem", null, true, true) => Scalar<ScalarIntegers.WideSignedRemainder, long, long, long>(),
            _ => throw Unknown(type),
        };
    }

    private static Handler Float(OpcodeReader opcode, string? accuracy, bool isFlushed, bool keepsNaN, bool isSaturated)
    {
        if (opcode.Name is "min" or "max")
        {
            if (accuracy is not null || isSaturated) throw Unknown(new("f32"));
            return (opcode.Name, keepsNaN) switch
            {
                ("min", false) => isFlushed ? Binary<Floats.Flushed<Floats.Min>>() : Binary<Floats.Min>(),
                ("max", false) => isFlushed ? Binary<Floats.Flushed<Floats.Max>>() : Binary<Floats.Max>(),
                ("min", true) => isFlushed ? Binary<Floats.Flushed<Floats.MinOrNaN>>() : Binary<Floats.MinOrNaN>(),
                _ => isFlushed ? Binary<Floats.Flushed<Floats.MaxOrNaN>>() : Binary<Floats.MaxOrNaN>(),
            };
        }

        if (keepsNaN) throw Unknown(new("f32"));
        if (opcode.Name is "div")
        {
            // Approximate quotients are within 2 units of this.
            if (accuracy is not ("rn" or "approx" or "full") || isSaturated) throw Unknown(new("f32"));
            return isFlushed ? Binary<Floats.Flushed<Floats.Divide>>() : Binary<Floats.Divide>();
        }

        return (opcode.Name, accuracy) switch
        {
            ("add", null or "rn") => Nearest<Floats.Add>(isFlushed, isSaturated),
            ("sub", null or "rn") => Nearest<Floats.Subtract>(isFlushed, isSaturated),
            ("mul", null or "rn") => Nearest<Floats.Multiply>(isFlushed, isSaturated),
            ("add", "rm") => Directed<DirectedRounding.Add<DirectedRounding.Down>>(isFlushed, isSaturated),
            ("add", "rp") => Directed<DirectedRounding.Add<DirectedRounding.Up>>(isFlushed, isSaturated),
            ("add", "rz") => Directed<DirectedRounding.Add<DirectedRounding.Towards0>>(isFlushed, isSaturated),
            ("sub", "rm") => Directed<DirectedRounding.Subtract<DirectedRounding.Down>>(isFlushed, isSaturated),
            ("sub", "rp") => Directed<DirectedRounding.Subtract<DirectedRounding.Up>>(isFlushed, isSaturated),
            ("sub", "rz") => Directed<DirectedRounding.Subtract<DirectedRounding.Towards0>>(isFlushed, isSaturated),
            ("mul", "rm") => Directed<DirectedRounding.Multiply<DirectedRounding.Down>>(isFlushed, isSaturated),
            ("mul", "rp") => Directed<DirectedRounding.Multiply<DirectedRounding.Up>>(isFlushed, isSaturated),
            ("mul", "rz") => Directed<DirectedRounding.Multiply<DirectedRounding.Towards0>>(isFlushed, isSaturated),
            _ => throw Unknown(new("f32")),
        };
    }

    private static Handler Nearest<T>(bool isFlushed, bool isSaturated)
        where T : struct, IBinary => (isFlushed, isSaturated) switch
        {
            (false, false) => Binary<T>(),
            (true, false) => Binary<Floats.Flushed<T>>(),
            (false, true) => Binary<Floats.Saturated<T>>(),
            _ => Binary<Floats.Saturated<Floats.Flushed<T>>>(),
        };

    private static Handler Directed<T>(bool isFlushed, bool isSaturated)
        where T : struct, IScalar<float, float, float>
    {
        if (isSaturated) throw Unknown(new("f32"));
        return isFlushed ? Scalar<DirectedRounding.Flushed<T>, float, float, float>() : Scalar<T, float, float, float>();
    }

    private static Handler Packed(OpcodeReader opcode, PtxType type) => (opcode.Name, type.Name) switch
    {
        ("add", "f16x2") => Binary<Conversions.Pairwise<Binary16, Floats.Add>>(),
        ("sub", "f16x2") => Binary<Conversions.Pairwise<Binary16, Floats.Subtract>>(),
        ("mul", "f16x2") => Binary<Conversions.Pairwise<Binary16, Floats.Multiply>>(),
        ("min", "f16x2") => Binary<Conversions.Pairwise<Binary16, Floats.Min>>(),
        ("max", "f16x2") => Binary<Conversions.Pairwise<Binary16, Floats.Max>>(),
        ("add", "bf16x2") => Binary<Conversions.Pairwise<BrainFloat16, Floats.Add>>(),
        ("sub", "bf16x2") => Binary<Conversions.Pairwise<BrainFloat16, Floats.Subtract>>(),
        ("mul", "bf16x2") => Binary<Conversions.Pairwise<BrainFloat16, Floats.Multiply>>(),
        ("min", "bf16x2") => Binary<Conversions.Pairwise<BrainFloat16, Floats.Min>>(),
        ("max", "bf16x2") => Binary<Conversions.Pairwise<BrainFloat16, Floats.Max>>(),
        _ => throw Unknown(type),
    };

    private Handler MultiplyAdd(ref Instruction i, OpcodeReader opcode, Operand[] operands)
    {
        string? part = opcode.TakeOne("lo", "wide");
        bool isNearest = opcode.Take("rn"), isFlushed = opcode.Take("ftz");
        PtxType type = opcode.Type("s32", "u32", "s64", "u64", "f32", "f16x2", "bf16x2");
        if (part is "wide")
        {
            Count(operands, 4);
            PtxType wide = new(type.IsSigned ? "s64" : "u64");
            (i.D, i.A, i.B, i.C) = (Result(operands[0], wide), Source(operands[1], type), Source(operands[2], type), Source(operands[3], wide));
            if (type.Bits != 32 || type.IsFloat) throw Unknown(type);
            return type.IsSigned ? FieldOperations.SignedMultiplyAddWide : FieldOperations.MultiplyAddWide;
        }

        Operands(ref i, operands, type, 3);
        if (type.IsFloat)
        {
            if (part is not null || !isNearest || (type.IsPacked && isFlushed)) throw Unknown(type);
            if (type.IsPacked) return type.Name is "f16x2" ? Ternary<Conversions.PairwiseMultiplyAdd<Binary16>>() : Ternary<Conversions.PairwiseMultiplyAdd<BrainFloat16>>();
            return isFlushed ? Ternary<Floats.FlushedTernary<Floats.MultiplyAdd>>() : Ternary<Floats.MultiplyAdd>();
        }

        if (opcode.Name is not "mad" || part is not "lo" || isNearest || isFlushed) throw Unknown(type);
        return type.Bits == 64 ? WideTernary<WideIntegers.MultiplyAdd>() : Ternary<Integers.MultiplyAdd>();
    }

    private Handler OfOne(ref Instruction i, OpcodeReader opcode, Operand[] operands)
    {
        string? accuracy = opcode.TakeOne("rn", "approx");
        bool isFlushed = opcode.Take("ftz");
        PtxType type = opcode.Type();
        if (type.IsPredicate)
        {
            Count(operands, 2);
            (i.D, i.A) = (PredicateOf(operands[0]), PredicateOf(operands[1]));
            return opcode.Name is "not" && accuracy is null && !isFlushed ? PredicateOperations.Not : throw Unknown(type);
        }

        Operands(ref i, operands, type, 1);
        Handler handler = (opcode.Name, accuracy, type.Name) switch
        {
            ("neg", null, "f32") => Of<Floats.Negate>(isFlushed),
            ("abs", null, "f32") => Of<Floats.Abs>(isFlushed),
            ("neg", null, "s32") => Unary<Integers.Negate>(),
            ("neg", null, "s64") => WideUnary<WideIntegers.Negate>(),
            ("abs", null, "s32") => Unary<Integers.Abs>(),
            ("abs", null, "s64") => WideUnary<WideIntegers.Abs>(),
            ("not", null, "b32") => Unary<Integers.Not>(),
            ("not", null, "b64") => WideUnary<WideIntegers.Not>(),
            ("popc", null, "b32") => Scalar<ScalarIntegers.PopulationCount, uint, uint, uint>(),
            ("clz", null, "b32") => Scalar<ScalarIntegers.LeadingZeros, uint, uint, uint>(),
            ("brev", null, "b32") => Scalar<ScalarIntegers.ReverseBits, uint, uint, uint>(),
            ("rcp", not null, "f32") => Of<Floats.Reciprocal>(isFlushed),
            ("sqrt", not null, "f32") => Of<Floats.SquareRoot>(isFlushed),
            ("ex2", "approx", "f32") => Of<Approximations.Exp2>(isFlushed),
            ("lg2", "approx", "f32") => isFlushed ? Scalar<DirectedRounding.Flushed<Approximations.Log2>, float, float, float>() : Scalar<Approximations.Log2, float, float, float>(),
            ("rsqrt", "approx", "f32") => isFlushed ? Scalar<DirectedRounding.Flushed<Approximations.ReciprocalSquareRoot>, float, float, float>() : Scalar<Approximations.ReciprocalSquareRoot, float, float, float>(),
            ("tanh", "approx", "f32") when !isFlushed => Scalar<Approximations.Tanh, float, float, float>(),
            _ => throw Unknown(type),
        };
        if (isFlushed && type.Name is not "f32") throw Unknown(type);
        return handler;
    }

    private static Handler Of<T>(bool isFlushed)
        where T : struct, IUnary => isFlushed ? Unary<Floats.FlushedUnary<T>>() : Unary<T>();

    private static CudaEmulationException Unknown(PtxType type) => new($"the instruction is not known with these modifiers and type .{type.Name}.");
}
