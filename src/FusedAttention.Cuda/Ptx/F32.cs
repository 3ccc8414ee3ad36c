namespace FusedAttention.Cuda.Ptx;

/// <summary>A 32-bit float. Arithmetic rounds to nearest even and keeps subnormals; comparisons with NaN are false.</summary>
internal sealed class F32 : Value, IValue<F32>
{
    private F32(float constant)
        : base($"0f{BitConverter.SingleToUInt32Bits(constant):X8}")
    {
    }

    private F32(PtxKernel kernel)
        : base(kernel)
    {
    }

    public static string Suffix => "f32";

    public static int Bytes => 4;

    public override string Prefix => "f";

    public override string Declaration => ".f32";

    public static implicit operator F32(float constant) => new(constant);

    public static F32 operator +(F32 a, F32 b) => From("add.f32", a, b);

    public static F32 operator -(F32 a, F32 b) => From("sub.f32", a, b);

    public static F32 operator *(F32 a, F32 b) => From("mul.f32", a, b);

    public static F32 operator -(F32 a) => From("neg.f32", a);

    /// <summary>Correctly rounded.</summary>
    public static F32 operator /(F32 a, F32 b) => From("div.rn.f32", a, b);

    public static Predicate operator <(F32 a, F32 b) => Predicate.Of("setp.lt.f32", a, b);

    public static Predicate operator >(F32 a, F32 b) => Predicate.Of("setp.gt.f32", a, b);

    public static Predicate operator <=(F32 a, F32 b) => Predicate.Of("setp.le.f32", a, b);

    public static Predicate operator >=(F32 a, F32 b) => Predicate.Of("setp.ge.f32", a, b);

    /// <summary>a * b + c, rounded once.</summary>
    public static F32 MultiplyAdd(F32 a, F32 b, F32 c) => From("fma.rn.f32", a, b, c);

    /// <summary>The smaller one; of a number and NaN, the number.</summary>
    public static F32 Min(F32 a, F32 b) => From("min.f32", a, b);

    /// <summary>The larger one; of a number and NaN, the number.</summary>
    public static F32 Max(F32 a, F32 b) => From("max.f32", a, b);

    public static F32 Select(Predicate condition, F32 yes, F32 no) => condition.Select("selp.f32", yes, no);

    public static F32 In(PtxKernel kernel) => new(kernel);

    public Predicate Is(F32 other) => Predicate.Of("setp.eq.f32", this, other);

    /// <summary>Whether it differs, or one of the two is NaN.</summary>
    public Predicate IsNot(F32 other) => Predicate.Of("setp.neu.f32", this, other);

    public Predicate IsFinite() => Predicate.Of("testp.finite.f32", this);

    public F32 Abs() => From("abs.f32", this);

    /// <summary>2^x, by the special function unit: 2 units in the last place.</summary>
    public F32 Exp2() => From("ex2.approx.ftz.f32", this);

    /// <summary>2^x that may be below 2^-126, where <see cref="Exp2"/> gives 0; some instructions more.</summary>
    public F32 Exp2WithSubnormals() => From("ex2.approx.f32", this);

    /// <summary>log2(x), by the special function unit: to 2^-22, absolutely around 1 and relatively elsewhere.</summary>
    public F32 Log2() => From("lg2.approx.f32", this);

    /// <summary>1 / x, correctly rounded.</summary>
    public F32 Reciprocal() => From("rcp.rn.f32", this);

    /// <summary>1 / x, by the special function unit: 1 unit in the last place.</summary>
    public F32 ReciprocalApproximately() => From("rcp.approx.ftz.f32", this);

    /// <summary>The bits.</summary>
    public I32 AsI32() => I32.From("mov.b32", this);

    /// <summary>Assigns.</summary>
    public void Set(F32 value) => Kernel!.Emit("mov.f32", this, value);

    /// <summary>Adds in place.</summary>
    public void Add(F32 value) => Kernel!.Emit("add.f32", this, this, value);

    /// <summary>Multiplies in place.</summary>
    public void Multiply(F32 by) => Kernel!.Emit("mul.f32", this, this, by);

    /// <summary>Adds a product in place, rounding once.</summary>
    public void AddProduct(F32 a, F32 b) => Kernel!.Emit("fma.rn.f32", this, a, b, this);

    public static F32 From(string opcode, params ReadOnlySpan<Value> operands)
    {
        PtxKernel? kernel = null;
        foreach (Value operand in operands) kernel ??= operand.Kernel;
        var result = new F32(kernel ?? throw new InvalidOperationException($"{opcode} of constants alone."));
        kernel.Emit(opcode, [result, .. operands]);
        return result;
    }
}
