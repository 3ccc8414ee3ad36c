using System.Globalization;
using System.Numerics;

namespace FusedAttention.Cuda.Ptx;

/// <summary>A 32-bit integer, signed where it matters. Operators write instructions; those on constants alone are done here.</summary>
internal sealed class I32 : Value, IValue<I32>
{
    private readonly int? _constant;

    private I32(int constant)
        : base(constant.ToString(CultureInfo.InvariantCulture)) => _constant = constant;

    private I32(PtxKernel kernel)
        : base(kernel)
    {
    }

    public static string Suffix => "b32";

    public static int Bytes => 4;

    public override string Prefix => "r";

    public override string Declaration => ".b32";

    public static implicit operator I32(int constant) => new(constant);

    public static I32 operator +(I32 a, I32 b) => a._constant == 0 ? b : b._constant == 0 ? a : Of("add.s32", a, b, (x, y) => x + y);

    public static I32 operator -(I32 a, I32 b) => b._constant == 0 ? a : Of("sub.s32", a, b, (x, y) => x - y);

    public static I32 operator *(I32 a, I32 b) => a._constant == 1 ? b : b._constant == 1 ? a : Of("mul.lo.s32", a, b, (x, y) => x * y);

    public static I32 operator -(I32 a) => 0 - a;

    public static I32 operator ~(I32 a) => a ^ -1;

    public static I32 operator &(I32 a, I32 b) => Of("and.b32", a, b, (x, y) => x & y);

    public static I32 operator |(I32 a, I32 b) => Of("or.b32", a, b, (x, y) => x | y);

    public static I32 operator ^(I32 a, I32 b) => Of("xor.b32", a, b, (x, y) => x ^ y);

    public static I32 operator <<(I32 a, int by) => by == 0 ? a : Of("shl.b32", a, by, (x, y) => x << y);

    /// <summary>Keeps the sign.</summary>
    public static I32 operator >>(I32 a, int by) => by == 0 ? a : Of("shr.s32", a, by, (x, y) => x >> y);

    public static I32 operator >>>(I32 a, int by) => by == 0 ? a : Of("shr.u32", a, by, (x, y) => x >>> y);

    /// <summary>Shifted to the right by a number of bits that only the device knows; zeros come in.</summary>
    public I32 ShiftRight(I32 by) => Write("shr.u32", this, by);

    public static Predicate operator <(I32 a, I32 b) => Predicate.Of("setp.lt.s32", a, b);

    public static Predicate operator >(I32 a, I32 b) => Predicate.Of("setp.gt.s32", a, b);

    public static Predicate operator <=(I32 a, I32 b) => Predicate.Of("setp.le.s32", a, b);

    public static Predicate operator >=(I32 a, I32 b) => Predicate.Of("setp.ge.s32", a, b);

    /// <summary>a * b + c.</summary>
    public static I32 MultiplyAdd(I32 a, I32 b, I32 c) => a._constant == 0 || b._constant == 0 ? c : Write("mad.lo.s32", a, b, c);

    public static I32 Min(I32 a, I32 b) => Of("min.s32", a, b, Math.Min);

    public static I32 Max(I32 a, I32 b) => Of("max.s32", a, b, Math.Max);

    /// <summary>The quotient of two numbers that are not negative.</summary>
    public static I32 Quotient(I32 a, I32 b)
    {
        if (b._constant is not { } divisor) return Write("div.u32", a, b);
        if (a._constant is { } number) return number / divisor;

        // The assembler divides by a constant, too, in full, where all threads of a warp have the same number.
        if (BitOperations.IsPow2(divisor)) return a >>> BitOperations.Log2((uint)divisor);
        Reciprocal reciprocal = Reciprocal.Of(divisor);
        return Quotient(a, (int)reciprocal.Factor, reciprocal.Shift);
    }

    /// <summary>The quotient by the number that a <see cref="Reciprocal"/> is of.</summary>
    public static I32 Quotient(I32 a, I32 factor, I32 shift) => Write("mul.hi.u32", a << 1, factor).ShiftRight(shift);

    /// <summary>Shifts by a number that is not negative; by 32 and more everything is shifted out.</summary>
    public static I32 ShiftLeft(I32 a, I32 by) => Write("shl.b32", a, by);

    /// <summary>Chooses without a branch.</summary>
    public static I32 Select(Predicate condition, I32 yes, I32 no) => condition.Select("selp.b32", yes, no);

    public static I32 In(PtxKernel kernel) => new(kernel);

    /// <summary>A constant in a register of its own, for instructions that take no constant.</summary>
    public static I32 InRegister(PtxKernel kernel, int value) => kernel.Variable("constant", (I32)value);

    public Predicate Is(I32 other) => Predicate.Of("setp.eq.s32", this, other);

    public Predicate IsNot(I32 other) => Predicate.Of("setp.ne.s32", this, other);

    /// <summary>Whether it is below <paramref name="other"/>, both without sign.</summary>
    public Predicate IsBelow(I32 other) => Predicate.Of("setp.lt.u32", this, other);

    public I64 Widen() => _constant is { } constant ? constant : I64.From("cvt.s64.s32", this);

    public F32 ToF32() => F32.From("cvt.rn.f32.s32", this);

    /// <summary>The float that has these bits.</summary>
    public F32 AsF32() => F32.From("mov.b32", this);

    /// <summary>Assigns.</summary>
    public void Set(I32 value) => Kernel!.Emit("mov.b32", this, value);

    /// <summary>Adds in place.</summary>
    public void Add(I32 value) => Kernel!.Emit("add.s32", this, this, value);

    /// <summary>A result of an instruction whose operands are other values.</summary>
    public static I32 From(string opcode, Value operand)
    {
        var result = new I32(operand.Kernel!);
        result.Kernel!.Emit(opcode, result, operand);
        return result;
    }

    private static I32 Of(string opcode, I32 a, I32 b, Func<int, int, int> fold) =>
        a._constant is { } x && b._constant is { } y ? fold(x, y) : Write(opcode, a, b);

    private static I32 Write(string opcode, I32 a, I32 b)
    {
        var result = new I32(KernelOf(a, b));
        result.Kernel!.Emit(opcode, result, a, b);
        return result;
    }

    private static I32 Write(string opcode, I32 a, I32 b, I32 c)
    {
        var result = new I32(a.Kernel ?? KernelOf(b, c));
        result.Kernel!.Emit(opcode, result, a, b, c);
        return result;
    }
}
