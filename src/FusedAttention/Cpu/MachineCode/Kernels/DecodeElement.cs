namespace FusedAttention.Cpu.MachineCode.Kernels;

/// <summary>What keys and values consist of, for the kernels that decode them where they lie; and what they are multiplied with.</summary>
internal enum DecodeElement
{
    /// <summary>binary16, by floats: <c>vcvtph2ps</c> and multiply-adds.</summary>
    Half,

    /// <summary>8-bit integers, by 16-bit ones: <c>vpmovsxbw</c> and <c>vpdpwssd</c>, twice as many products an instruction as floats have.</summary>
    Int8,

    /// <summary>The same where the processor has no <c>vpdpwssd</c>: <c>vpmaddwd</c> and <c>vpaddd</c>, for the same integers.</summary>
    Int8WithoutVnni,
}

/// <summary>Sizes and instructions of a <see cref="DecodeElement"/>.</summary>
internal sealed class DecodeElementCode
{
    private readonly Assembler _k;
    private readonly DecodeElement _element;
    private readonly Vec _product;

    /// <param name="k">The kernel, of whose registers one is taken where products are made apart from their sums.</param>
    /// <param name="element">The element.</param>
    /// <param name="bits">Of a vector.</param>
    public DecodeElementCode(Assembler k, DecodeElement element, short bits)
    {
        (_k, _element) = (k, element);
        Lanes = bits / 8 / FactorBytes;
        if (element == DecodeElement.Int8WithoutVnni) _product = k.Vector(bits, "product");
    }

    public int Bytes => IsInteger ? sizeof(sbyte) : sizeof(ushort);

    /// <summary>Bytes of a query's element or of a weight.</summary>
    public int FactorBytes => IsInteger ? sizeof(short) : sizeof(float);

    /// <summary>Elements of a vector, once they are as wide as their factors.</summary>
    public int Lanes { get; }

    public bool IsInteger => _element != DecodeElement.Half;

    /// <summary>As kernels' names have it.</summary>
    public static string NameOf(DecodeElement element) => element switch
    {
        DecodeElement.Half => "fp16",
        DecodeElement.Int8 => "int8",
        DecodeElement.Int8WithoutVnni => "int8 without VNNI",
        _ => throw new InvalidOperationException($"There is no element {element}."),
    };

    public void Widen(Vec to, Mem from)
    {
        if (IsInteger) _k.Vpmovsxbw(to, from);
        else _k.Vcvtph2ps(to, from);
    }

    public void MultiplyAdd(Vec sum, Vec factor, Vec element)
    {
        switch (_element)
        {
            case DecodeElement.Half:
                _k.Vfmadd231ps(sum, factor, element);
                break;
            case DecodeElement.Int8:
                _k.Vpdpwssd(sum, factor, element);
                break;
            default:
                _k.Vpmaddwd(_product, factor, element);
                _k.Vpaddd(sum, sum, _product);
                break;
        }
    }
}
