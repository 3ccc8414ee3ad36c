namespace FusedAttention.Cuda.Ptx;

/// <summary>How an element lies in memory.</summary>
internal enum ElementFormat
{
    Float32,
    Float16,
    BFloat16,

    /// <summary>A signed byte.</summary>
    Int8,

    /// <summary>A byte of sign, 4 bits of exponent and 3 of fraction.</summary>
    Float8E4M3,
}

/// <summary>What is to be known of formats.</summary>
internal static class ElementFormats
{
    /// <summary>Bytes of an element.</summary>
    public static int Bytes(this ElementFormat format) => format switch
    {
        ElementFormat.Float32 => 4,
        ElementFormat.Float16 or ElementFormat.BFloat16 => 2,
        _ => 1,
    };
}

/// <summary>One 16-bit element.</summary>
internal sealed class B16 : Value, IValue<B16>
{
    private B16(PtxKernel kernel)
        : base(kernel)
    {
    }

    public static string Suffix => "b16";

    public static int Bytes => 2;

    public override string Prefix => "h";

    public override string Declaration => ".b16";

    public static B16 In(PtxKernel kernel) => new(kernel);

    /// <summary>The nearest element, ties to even.</summary>
    public static B16 Of(ElementFormat format, F32 value)
    {
        var result = new B16(value.Kernel!);
        value.Kernel!.Emit(format == ElementFormat.Float16 ? "cvt.rn.f16.f32" : "cvt.rn.bf16.f32", result, value);
        return result;
    }

    /// <summary>Exact.</summary>
    public F32 Widen(ElementFormat format) => format == ElementFormat.Float16 ? F32.From("cvt.f32.f16", this) : (I32.From("cvt.u32.u16", this) << 16).AsF32();
}

/// <summary>Two 16-bit elements in one register, the first one in the low half.</summary>
internal sealed class Pair : Value, IValue<Pair>
{
    private Pair(PtxKernel kernel)
        : base(kernel)
    {
    }

    public static string Suffix => "b32";

    public static int Bytes => 4;

    public override string Prefix => "x";

    public override string Declaration => ".b32";

    public static Pair In(PtxKernel kernel) => new(kernel);

    /// <summary>The nearest elements, ties to even.</summary>
    public static Pair Of(ElementFormat format, F32 first, F32 second)
    {
        var result = new Pair(first.Kernel!);
        result.SetRounded(format, first, second);
        return result;
    }

    /// <summary>Assigns the nearest elements, ties to even.</summary>
    public void SetRounded(ElementFormat format, F32 first, F32 second) =>
        Kernel!.Emit(format == ElementFormat.Float16 ? "cvt.rn.f16x2.f32" : "cvt.rn.bf16x2.f32", this, second, first);

    public static Pair Select(Predicate condition, Pair yes, Pair no) => condition.Select("selp.b32", yes, no);

    /// <summary>Exact.</summary>
    public (F32 First, F32 Second) Widen(ElementFormat format)
    {
        if (format == ElementFormat.BFloat16)
        {
            var bits = I32.From("mov.b32", this);
            return ((bits << 16).AsF32(), (bits & unchecked((int)0xFFFF0000)).AsF32());
        }

        B16 low = B16.In(Kernel!), high = B16.In(Kernel!);
        Kernel!.Emit("mov.b32", new Vector(low, high), this);
        return (low.Widen(format), high.Widen(format));
    }

    /// <summary>Assigns.</summary>
    public void Set(Pair value) => Kernel!.Emit("mov.b32", this, value);

    /// <summary>Assigns bits.</summary>
    public void Set(I32 bits) => Kernel!.Emit("mov.b32", this, bits);

    public I32 AsI32() => I32.From("mov.b32", this);
}

/// <summary>Registers in braces, as one operand: those that the array holds now, whatever its owner puts into it later.</summary>
internal sealed class Vector(params ReadOnlySpan<Value> elements) : Value("{}")
{
    private readonly Value[] _elements = elements.ToArray();

    public override string Prefix => string.Empty;

    public override string Declaration => string.Empty;

    public override string ToString() => $"{{{string.Join(", ", (IEnumerable<Value>)_elements)}}}";
}
