using System.Globalization;

namespace FusedAttention.Cuda.Ptx;

/// <summary>A signed 64-bit integer: positions, strides, addresses.</summary>
internal sealed class I64 : Value, IValue<I64>
{
    private readonly long? _constant;

    private I64(long constant)
        : base(constant.ToString(CultureInfo.InvariantCulture)) => _constant = constant;

    private I64(PtxKernel kernel)
        : base(kernel)
    {
    }

    public static string Suffix => "b64";

    public static int Bytes => 8;

    public override string Prefix => "rd";

    public override string Declaration => ".b64";

    public static implicit operator I64(long constant) => new(constant);

    public static I64 operator +(I64 a, I64 b) => a._constant == 0 ? b : b._constant == 0 ? a : Of("add.s64", a, b, (x, y) => x + y);

    public static I64 operator -(I64 a, I64 b) => b._constant == 0 ? a : Of("sub.s64", a, b, (x, y) => x - y);

    public static I64 operator *(I64 a, I64 b) => a._constant == 1 ? b : b._constant == 1 ? a : Of("mul.lo.s64", a, b, (x, y) => x * y);

    public static I64 operator <<(I64 a, int by) => by == 0 ? a : From("shl.b64", a, (I32)by);

    /// <summary>Without the sign.</summary>
    public static I64 operator >>>(I64 a, int by) => by == 0 ? a : From("shr.u64", a, (I32)by);

    public static Predicate operator <(I64 a, I64 b) => Predicate.Of("setp.lt.s64", a, b);

    public static Predicate operator >(I64 a, I64 b) => Predicate.Of("setp.gt.s64", a, b);

    public static Predicate operator <=(I64 a, I64 b) => Predicate.Of("setp.le.s64", a, b);

    public static Predicate operator >=(I64 a, I64 b) => Predicate.Of("setp.ge.s64", a, b);

    public static I64 Min(I64 a, I64 b) => Of("min.s64", a, b, Math.Min);

    public static I64 Max(I64 a, I64 b) => Of("max.s64", a, b, Math.Max);

    /// <summary>a * b, of 32-bit factors.</summary>
    public static I64 Product(I32 a, I32 b) => From("mul.wide.s32", a, b);

    /// <summary>a * b + c.</summary>
    public static I64 MultiplyAdd(I64 a, I64 b, I64 c)
    {
        var result = new I64(a.Kernel ?? KernelOf(b, c));
        result.Kernel!.Emit("mad.lo.s64", result, a, b, c);
        return result;
    }

    /// <summary>Of two halves.</summary>
    public static I64 Of(I32 low, I32 high)
    {
        var result = new I64(KernelOf(low, high));
        result.Kernel!.Emit("mov.b64", result, new Vector(low, high));
        return result;
    }

    public static I64 Select(Predicate condition, I64 yes, I64 no) => condition.Select("selp.b64", yes, no);

    public static I64 In(PtxKernel kernel) => new(kernel);

    public Predicate Is(I64 other) => Predicate.Of("setp.eq.s64", this, other);

    public Predicate IsNot(I64 other) => Predicate.Of("setp.ne.s64", this, other);

    /// <summary>The low half.</summary>
    public I32 ToI32() => I32.From("cvt.u32.u64", this);

    public F32 ToF32() => F32.From("cvt.rn.f32.s64", this);

    /// <summary>Assigns.</summary>
    public void Set(I64 value) => Kernel!.Emit("mov.b64", this, value);

    /// <summary>Adds in place.</summary>
    public void Add(I64 value) => Kernel!.Emit("add.s64", this, this, value);

    public static I64 From(string opcode, params ReadOnlySpan<Value> operands)
    {
        PtxKernel? kernel = null;
        foreach (Value operand in operands) kernel ??= operand.Kernel;
        var result = new I64(kernel!);
        kernel!.Emit(opcode, [result, .. operands]);
        return result;
    }

    private static I64 Of(string opcode, I64 a, I64 b, Func<long, long, long> fold) =>
        a._constant is { } x && b._constant is { } y ? fold(x, y) : From(opcode, a, b);
}
