namespace FusedAttention.Cuda.Ptx;

/// <summary>A condition in a predicate register, or the opposite of one, which costs nothing until something needs it in a register.</summary>
internal sealed class Predicate : Value
{
    private readonly Predicate? _opposite;

    private Predicate(PtxKernel kernel)
        : base(kernel)
    {
    }

    private Predicate(Predicate opposite)
        : base(string.Empty) => _opposite = opposite;

    public override string Prefix => "p";

    public override string Declaration => ".pred";

    private PtxKernel Home => Kernel ?? _opposite!.Kernel!;

    public static Predicate operator !(Predicate p) => p._opposite ?? new(p);

    public static Predicate operator &(Predicate a, Predicate b) => Of("and.pred", a.InRegister(), b.InRegister());

    public static Predicate operator |(Predicate a, Predicate b) => Of("or.pred", a.InRegister(), b.InRegister());

    public static Predicate In(PtxKernel kernel) => new(kernel);

    public static Predicate Of(string opcode, Value a, Value b)
    {
        var result = new Predicate(a.Kernel ?? b.Kernel ?? throw new InvalidOperationException($"{opcode} of constants alone."));
        result.Kernel!.Emit(opcode, result, a, b);
        return result;
    }

    public static Predicate Of(string opcode, Value a)
    {
        var result = new Predicate(a.Kernel!);
        result.Kernel!.Emit(opcode, result, a);
        return result;
    }

    /// <summary>Assigns.</summary>
    public void Set(Predicate value) => Kernel!.Emit("mov.pred", this, value.InRegister());

    /// <summary>Assigns a constant.</summary>
    public void Set(bool value)
    {
        // There is no predicate constant: compare two numbers.
        Kernel!.Emit("setp.eq.s32", this, (I32)0, (I32)(value ? 0 : 1));
    }

    /// <summary>In front of an instruction: <c>@%p1</c> or <c>@!%p1</c>.</summary>
    public string Guard => _opposite is null ? $"@{this}" : $"@!{_opposite}";

    /// <summary>A selection; the opposite swaps the two.</summary>
    public T Select<T>(string opcode, T yes, T no)
        where T : Value, IValue<T>
    {
        if (_opposite is not null) return _opposite.Select(opcode, no, yes);
        T result = T.In(Home);
        Home.Emit(opcode, result, yes, no, this);
        return result;
    }

    /// <summary>As an operand of an instruction that takes no opposite.</summary>
    public Predicate InRegister()
    {
        if (_opposite is null) return this;
        var result = new Predicate(Home);
        Home.Emit("not.pred", result, _opposite);
        return result;
    }
}
