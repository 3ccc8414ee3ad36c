using FusedAttention.Cuda.Emulation.Machine;
using FusedAttention.Cuda.Emulation.Syntax;
using static FusedAttention.Cuda.Emulation.Machine.LaneOperations;

namespace FusedAttention.Cuda.Emulation.Programs;

/// <content>Bits, comparisons, moves and conversions.</content>
internal sealed unsafe partial class Decoder
{
    private Handler Bitwise(ref Instruction i, OpcodeReader opcode, Operand[] operands)
    {
        PtxType type = opcode.Type();
        if (type.IsPredicate)
        {
            Count(operands, 3);
            (i.D, i.A, i.B) = (PredicateOf(operands[0]), PredicateOf(operands[1]), PredicateOf(operands[2]));
            return opcode.Name switch { "and" => PredicateOperations.And, "or" => PredicateOperations.Or, "xor" => PredicateOperations.Xor, _ => throw Unknown(type) };
        }

        if (opcode.Name is "shl" or "shr")
        {
            // The distance has 32 bits whatever is shifted.
            Count(operands, 3);
            (i.D, i.A, i.B) = (Result(operands[0], type), Source(operands[1], type), Source(operands[2], new("u32")));
        }
        else
        {
            Operands(ref i, operands, type, 2);
        }

        return (opcode.Name, type.Name) switch
        {
            ("and", "b32") => Binary<Integers.And>(),
            ("or", "b32") => Binary<Integers.Or>(),
            ("xor", "b32") => Binary<Integers.Xor>(),
            ("and", "b64") => WideBinary<WideIntegers.And>(),
            ("or", "b64") => WideBinary<WideIntegers.Or>(),
            ("xor", "b64") => WideBinary<WideIntegers.Xor>(),
            ("shl", "b32") => Binary<Integers.ShiftLeft>(),
            ("shl", "b64") => Scalar<ScalarIntegers.WideShiftLeft, ulong, ulong, uint>(),
            ("shr", "u32" or "b32") => Binary<Integers.ShiftRight>(),
            ("shr", "s32") => Binary<Integers.SignedShiftRight>(),
            ("shr", "u64" or "b64") => Scalar<ScalarIntegers.WideShiftRight, ulong, ulong, uint>(),
            ("shr", "s64") => Scalar<ScalarIntegers.WideSignedShiftRight, long, long, uint>(),
            ("copysign", "f32") => Binary<Floats.CopySign>(),
            _ => throw Unknown(type),
        };
    }

    private Handler Field(ref Instruction i, OpcodeReader opcode, Operand[] operands)
    {
        if (opcode.Name is "shf")
        {
            bool isLeft = opcode.Expect("l", "r") is "l";
            i.Number = opcode.Expect("wrap", "clamp") is "clamp" ? 1 : 0;
            Operands(ref i, operands, opcode.Type("b32"), 3);
            return isLeft ? FieldOperations.FunnelLeft : FieldOperations.FunnelRight;
        }

        PtxType type = opcode.Type("b32", "u32", "s32");
        switch (opcode.Name)
        {
            case "lop3":
                Count(operands, 5);
                Operands(ref i, operands[..4], type, 3);
                i.Number = (int)IntegerOf(operands[4]);
                return FieldOperations.Logic3;
            case "prmt":
                Operands(ref i, operands, type, 3);
                return FieldOperations.Permute;
            case "bfe":
                Operands(ref i, operands, type, 3);
                return type.IsSigned ? FieldOperations.SignedExtract : FieldOperations.Extract;
            default:
                Count(operands, 5);
                Operands(ref i, operands[..3], type, 2);
                (i.Number, i.Count) = ((int)IntegerOf(operands[3]) & 0xFF, (int)IntegerOf(operands[4]) & 0xFF);
                return FieldOperations.Insert;
        }
    }

    private Handler Choice(ref Instruction i, OpcodeReader opcode, Operand[] operands)
    {
        switch (opcode.Name)
        {
            case "selp":
                PtxType chosen = opcode.Type("b32", "u32", "s32", "f32", "b64", "u64", "s64", "f64", "b16", "u16", "s16");
                Count(operands, 4);
                (i.D, i.A, i.B, i.C) = (Result(operands[0], chosen), Source(operands[1], chosen), Source(operands[2], chosen), PredicateOf(operands[3]));
                return chosen.Bits == 64 ? PredicateOperations.WideSelect : PredicateOperations.Select;
            case "testp":
                string property = opcode.Expect("finite", "infinite", "number", "notanumber");
                Count(operands, 2);
                i.D = PredicateOf(operands[0]);
                i.A = i.B = Source(operands[1], opcode.Type("f32"));
                return property switch
                {
                    "finite" => Compare<Floats.IsFinite>(),
                    "infinite" => Compare<Floats.IsInfinite>(),
                    "number" => Compare<Floats.IsNumber>(),
                    _ => Compare<Floats.Not<Floats.IsNumber>>(),
                };
            default:
                return Comparison(ref i, opcode, operands);
        }
    }

    private Handler Comparison(ref Instruction i, OpcodeReader opcode, Operand[] operands)
    {
        string relation = opcode.Expect("eq", "ne", "lt", "le", "gt", "ge", "lo", "ls", "hi", "hs", "equ", "neu", "ltu", "leu", "gtu", "geu", "num", "nan");
        i.Number = (int)(opcode.TakeOne("and", "or", "xor") switch { "and" => PredicateJoin.And, "or" => PredicateJoin.Or, "xor" => PredicateJoin.Xor, _ => PredicateJoin.None });
        bool isFlushed = opcode.Take("ftz");
        PtxType type = opcode.Type();
        Count(operands, i.Number == 0 ? 3 : 4);
        if (operands[0] is PairOperand pair) (i.D, i.E) = (PredicateOf(pair.First), PredicateOf(pair.Second));
        else i.D = PredicateOf(operands[0]);
        (i.A, i.B) = (Source(operands[1], type), Source(operands[2], type));
        if (i.Number != 0) (i.C, i.Offset) = Condition(operands[3]);
        if (type.Name is "f32") return FloatComparison(relation, isFlushed);
        if (isFlushed || type.IsFloat) throw Unknown(type);
        return (relation, type.IsSigned, type.Bits) switch
        {
            ("eq", _, 16 or 32) => Compare<Integers.Equal>(),
            ("ne", _, 16 or 32) => Compare<Integers.NotEqual>(),
            ("lt" or "lo", false, 16 or 32) => Compare<Integers.Less>(),
            ("le" or "ls", false, 16 or 32) => Compare<Integers.LessOrEqual>(),
            ("gt" or "hi", false, 16 or 32) => Compare<Swapped<Integers.Less>>(),
            ("ge" or "hs", false, 16 or 32) => Compare<Swapped<Integers.LessOrEqual>>(),
            ("lt", true, 32) => Compare<Integers.SignedLess>(),
            ("le", true, 32) => Compare<Integers.SignedLessOrEqual>(),
            ("gt", true, 32) => Compare<Swapped<Integers.SignedLess>>(),
            ("ge", true, 32) => Compare<Swapped<Integers.SignedLessOrEqual>>(),
            ("eq", _, 64) => WideCompare<WideIntegers.Equal>(),
            ("ne", _, 64) => WideCompare<WideIntegers.NotEqual>(),
            ("lt" or "lo", false, 64) => WideCompare<WideIntegers.Less>(),
            ("le" or "ls", false, 64) => WideCompare<WideIntegers.LessOrEqual>(),
            ("gt" or "hi", false, 64) => WideCompare<WideSwapped<WideIntegers.Less>>(),
            ("ge" or "hs", false, 64) => WideCompare<WideSwapped<WideIntegers.LessOrEqual>>(),
            ("lt", true, 64) => WideCompare<WideIntegers.SignedLess>(),
            ("le", true, 64) => WideCompare<WideIntegers.SignedLessOrEqual>(),
            ("gt", true, 64) => WideCompare<WideSwapped<WideIntegers.SignedLess>>(),
            ("ge", true, 64) => WideCompare<WideSwapped<WideIntegers.SignedLessOrEqual>>(),
            _ => throw Unknown(type),
        };
    }

    private static Handler FloatComparison(string relation, bool isFlushed) => relation switch
    {
        "eq" => Float<Floats.Equal>(isFlushed),
        "ne" => Float<Floats.NotEqual>(isFlushed),
        "lt" => Float<Floats.Less>(isFlushed),
        "le" => Float<Floats.LessOrEqual>(isFlushed),
        "gt" => Float<Swapped<Floats.Less>>(isFlushed),
        "ge" => Float<Swapped<Floats.LessOrEqual>>(isFlushed),
        "equ" => Float<Floats.Not<Floats.NotEqual>>(isFlushed),
        "neu" => Float<Floats.Not<Floats.Equal>>(isFlushed),
        "ltu" => Float<Floats.Not<Swapped<Floats.LessOrEqual>>>(isFlushed),
        "leu" => Float<Floats.Not<Swapped<Floats.Less>>>(isFlushed),
        "gtu" => Float<Floats.Not<Floats.LessOrEqual>>(isFlushed),
        "geu" => Float<Floats.Not<Floats.Less>>(isFlushed),
        "num" => Float<Floats.AreNumbers>(isFlushed),
        "nan" => Float<Floats.Not<Floats.AreNumbers>>(isFlushed),
        _ => throw Unknown(new("f32")),
    };

    private static Handler Float<T>(bool isFlushed)
        where T : struct, IBinary => isFlushed ? Compare<Floats.FlushedComparison<T>>() : Compare<T>();

    private Handler Move(ref Instruction i, OpcodeReader opcode, Operand[] operands)
    {
        if (opcode.Name is "cvt") return Conversion(ref i, opcode, operands);
        Count(operands, 2);
        if (opcode.Name is "cvta")
        {
            bool isTo = opcode.Take("to");
            string space = opcode.Expect("param", "shared", "global");
            PtxType wide = opcode.Type("u64", "b64", "s64");
            (i.D, i.A) = (Result(operands[0], wide), Source(operands[1], wide));
            ulong window = space switch { "param" => Warp.ParameterWindow, "shared" => Warp.SharedWindow, _ => 0 };
            i.B = Constant(window, 64);
            return isTo ? WideBinary<WideIntegers.Subtract>() : WideBinary<WideIntegers.Add>();
        }

        PtxType type = opcode.Type();
        if (type.IsPredicate)
        {
            (i.D, i.A) = (PredicateOf(operands[0]), PredicateOf(operands[1]));
            return PredicateOperations.Move;
        }

        bool isWide = type.Bits == 64;
        if (operands[0] is VectorOperand results)
        {
            Count(results.Elements, 2);
            PtxType half = new(isWide ? "b32" : "b16");
            (i.D, i.E, i.A) = (Result(results.Elements[0], half), Result(results.Elements[1], half), Source(operands[1], type));
            return isWide ? FieldOperations.Unpack : FieldOperations.UnpackHalves;
        }

        i.D = Result(operands[0], type);
        switch (operands[1])
        {
            case VectorOperand sources:
                Count(sources.Elements, 2);
                PtxType half = new(isWide ? "b32" : "b16");
                (i.A, i.B) = (Source(sources.Elements[0], half), Source(sources.Elements[1], half));
                return isWide ? FieldOperations.Pack : FieldOperations.PackHalves;
            case NameOperand name when SpecialRegisters.NumberOf(name.Name) >= 0:
                i.Number = SpecialRegisters.NumberOf(name.Name);
                return isWide ? SpecialRegisters.ReadWide : SpecialRegisters.Read;
            case NameOperand name when _shared.TryGetValue(name.Name, out uint address):
                i.A = Constant(address, type.Bits);
                break;
            case NameOperand name when _text.Parameters.Find(parameter => string.Equals(parameter.Name, name.Name, StringComparison.Ordinal)) is { } parameter:
                i.A = Constant((ulong)parameter.Offset, type.Bits);
                break;
            default:
                i.A = Source(operands[1], type);
                break;
        }

        return type.Bits switch { 64 => WideUnary<WideIntegers.Move>(), 16 or 32 => Unary<Integers.Move>(), _ => throw Unknown(type) };
    }

    private Handler Conversion(ref Instruction i, OpcodeReader opcode, Operand[] operands)
    {
        string? rounding = opcode.TakeOne("rn", "rz", "rm", "rp", "rni", "rzi", "rmi", "rpi");
        bool isFlushed = opcode.Take("ftz"), isPositive = opcode.Take("relu"), isFinite = opcode.Take("satfinite"), isSaturated = opcode.Take("sat");
        PtxType to = opcode.Type(), from = opcode.Type();
        if (isFlushed) throw Unknown(to);
        if (from.Name is "e4m3x2")
        {
            Count(operands, 2);
            (i.D, i.A) = (Result(operands[0], new("b32")), Source(operands[1], new("b16")));
            return to.Name is "f16x2" && rounding is "rn" && !isPositive && !isFinite && !isSaturated ? Unary<Conversions.FromFloat8>() : throw Unknown(to);
        }

        if (to.IsPacked)
        {
            Count(operands, 3);
            (i.D, i.A, i.B) = (Result(operands[0], new("b32")), Source(operands[1], from), Source(operands[2], from));
            if (from.Name is not "f32" || rounding is not "rn" || isSaturated || (isPositive && isFinite)) throw Unknown(to);
            return to.Name is "f16x2" ? ToPair<Binary16>(isPositive, isFinite) : ToPair<BrainFloat16>(isPositive, isFinite);
        }

        Count(operands, 2);
        (i.D, i.A) = (Element(operands[0], to, isResult: true), Element(operands[1], from, isResult: false));
        i.B = i.A;
        if (isPositive || isFinite) throw Unknown(to);
        if (to.Name is "f32" && from.Name is "f32" && !isSaturated) return ToWhole(rounding);
        if (to.Name is "f32" && from.Name is "f16" or "bf16" && rounding is null && !isSaturated) return from.Name is "f16" ? Unary<Conversions.FromHalf<Binary16>>() : Unary<Conversions.FromHalf<BrainFloat16>>();
        if (to.Name is "f16" or "bf16" && from.Name is "f32" && !isSaturated) return ToHalf(to, rounding);
        if (to.Name is "f32" && !isSaturated && rounding is "rn") return ToFloat(from);
        if (from.Name is "f32" && !to.IsFloat) return ToInteger(to, rounding);
        if (!to.IsFloat && !from.IsFloat && rounding is null) return Resized(to, from, isSaturated);
        throw Unknown(to);
    }

    private static Handler ToPair<T>(bool isPositive, bool isFinite)
        where T : struct, IHalf => isPositive ? Binary<Conversions.ToPairPositive<T>>() : isFinite ? Binary<Conversions.ToPairFinite<T>>() : Binary<Conversions.ToPair<T>>();

    private static Handler ToHalf(PtxType to, string? rounding) => (to.Name, rounding) switch
    {
        ("f16", "rn") => Unary<Conversions.ToHalf<Binary16>>(),
        ("bf16", "rn") => Unary<Conversions.ToHalf<BrainFloat16>>(),
        ("f16", "rz") => Scalar<Conversions.ToHalfTowards0<Binary16>, ushort, float, float>(),
        ("bf16", "rz") => Scalar<Conversions.ToHalfTowards0<BrainFloat16>, ushort, float, float>(),
        _ => throw Unknown(to),
    };

    private static Handler ToWhole(string? rounding) => rounding switch
    {
        "rni" => Scalar<Conversions.ToWhole<Conversions.ToNearest>, float, float, float>(),
        "rzi" => Scalar<Conversions.ToWhole<Conversions.Towards0>, float, float, float>(),
        "rmi" => Scalar<Conversions.ToWhole<Conversions.Down>, float, float, float>(),
        "rpi" => Scalar<Conversions.ToWhole<Conversions.Up>, float, float, float>(),
        _ => throw Unknown(new("f32")),
    };

    private static Handler ToFloat(PtxType from) => from.Name switch
    {
        "s8" => Scalar<Conversions.ToFloat<sbyte>, float, sbyte, sbyte>(),
        "u8" => Scalar<Conversions.ToFloat<byte>, float, byte, byte>(),
        "s16" => Scalar<Conversions.ToFloat<short>, float, short, short>(),
        "u16" => Scalar<Conversions.ToFloat<ushort>, float, ushort, ushort>(),
        "s32" => Scalar<Conversions.ToFloat<int>, float, int, int>(),
        "u32" => Scalar<Conversions.ToFloat<uint>, float, uint, uint>(),
        "s64" => Scalar<Conversions.ToFloat<long>, float, long, long>(),
        "u64" => Scalar<Conversions.ToFloat<ulong>, float, ulong, ulong>(),
        _ => throw Unknown(from),
    };

    private static Handler ToInteger(PtxType to, string? rounding) => rounding switch
    {
        "rni" => ToInteger<Conversions.ToNearest>(to),
        "rzi" => ToInteger<Conversions.Towards0>(to),
        "rmi" => ToInteger<Conversions.Down>(to),
        "rpi" => ToInteger<Conversions.Up>(to),
        _ => throw Unknown(to),
    };

    private static Handler ToInteger<TRounding>(PtxType to)
        where TRounding : struct, Conversions.IRounding => to.Name switch
        {
            "s32" => Scalar<Conversions.ToInteger<int, TRounding>, int, float, float>(),
            "u32" => Scalar<Conversions.ToInteger<uint, TRounding>, uint, float, float>(),
            "s64" => Scalar<Conversions.ToInteger<long, TRounding>, long, float, float>(),
            "u64" => Scalar<Conversions.ToInteger<ulong, TRounding>, ulong, float, float>(),
            _ => throw Unknown(to),
        };

    private static Handler Resized(PtxType to, PtxType from, bool isSaturated) => from.Name switch
    {
        "s32" when to.Bits == 64 && !isSaturated => Widening<Widenings.SignedExtend>(),
        "u32" when to.Bits == 64 && !isSaturated => Widening<Widenings.Extend>(),
        "s8" => Resized<sbyte>(to, isSaturated),
        "u8" => Resized<byte>(to, isSaturated),
        "s16" => Resized<short>(to, isSaturated),
        "u16" => Resized<ushort>(to, isSaturated),
        "s32" => Resized<int>(to, isSaturated),
        "u32" => Resized<uint>(to, isSaturated),
        "s64" => Resized<long>(to, isSaturated),
        "u64" => Resized<ulong>(to, isSaturated),
        _ => throw Unknown(from),
    };

    private static Handler Resized<TSource>(PtxType to, bool isSaturated)
        where TSource : unmanaged, System.Numerics.IBinaryInteger<TSource> => to.Name switch
        {
            "s8" => Resized<int, sbyte, TSource>(isSaturated),
            "s16" => Resized<int, short, TSource>(isSaturated),
            "s32" => Resized<int, int, TSource>(isSaturated),
            "u8" => Resized<uint, byte, TSource>(isSaturated),
            "u16" => Resized<uint, ushort, TSource>(isSaturated),
            "u32" => Resized<uint, uint, TSource>(isSaturated),
            "s64" => Resized<long, long, TSource>(isSaturated),
            "u64" => Resized<ulong, ulong, TSource>(isSaturated),
            _ => throw Unknown(to),
        };

    private static Handler Resized<TRegister, TResult, TSource>(bool isSaturated)
        where TRegister : unmanaged, System.Numerics.IBinaryInteger<TRegister>
        where TResult : unmanaged, System.Numerics.IBinaryInteger<TResult>
        where TSource : unmanaged, System.Numerics.IBinaryInteger<TSource> => isSaturated
            ? Scalar<Conversions.Saturate<TRegister, TResult, TSource>, TRegister, TSource, TSource>()
            : Scalar<Conversions.Truncate<TRegister, TResult, TSource>, TRegister, TSource, TSource>();
}
