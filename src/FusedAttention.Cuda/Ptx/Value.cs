namespace FusedAttention.Cuda.Ptx;

/// <summary>What an instruction takes or gives: a register of a kernel, or a constant. Registers get their names when the text is printed, so one may be named after the instruction that fills it.</summary>
internal abstract class Value
{
    private readonly int _number;

    /// <summary>A constant.</summary>
    protected Value(string constant) => Constant = constant;

    /// <summary>A fresh register.</summary>
    protected Value(PtxKernel kernel)
    {
        Kernel = kernel;
        _number = kernel.Register(this);
    }

    /// <summary>The kernel of a register; null for a constant.</summary>
    public PtxKernel? Kernel { get; }

    /// <summary>The constant as text; null for a register.</summary>
    public string? Constant { get; }

    /// <summary>The register's own name; null where it has a number.</summary>
    public string? Name { get; private set; }

    /// <summary>What numbered registers of the type begin with.</summary>
    public abstract string Prefix { get; }

    /// <summary>The type that registers are declared with.</summary>
    public abstract string Declaration { get; }

    public override string ToString() => Constant ?? (Name is null ? $"%{Prefix}{_number}" : $"%{Name}");

    /// <summary>Names the register; a constant stays what it is.</summary>
    public void SetName(string name) => Name = Kernel?.Unique(name);

    /// <summary>The kernel that a product of these values belongs to.</summary>
    protected static PtxKernel KernelOf(Value a, Value b) => a.Kernel ?? b.Kernel ?? throw new InvalidOperationException("Two constants have no kernel.");
}

/// <summary>A type of value, for what is generic over them.</summary>
internal interface IValue<TSelf>
    where TSelf : Value, IValue<TSelf>
{
    /// <summary>The suffix of loads and stores: <c>f32</c>.</summary>
    static abstract string Suffix { get; }

    static abstract int Bytes { get; }

    /// <summary>A fresh register.</summary>
    static abstract TSelf In(PtxKernel kernel);
}

/// <summary>What all registers can do.</summary>
internal static class Values
{
    /// <summary>Gives the register a name in the text.</summary>
    public static T As<T>(this T value, string name)
        where T : Value
    {
        value.SetName(name);
        return value;
    }
}
