namespace FusedAttention.Cpu.MachineCode.Kernels;

/// <summary>What keys and values consist of, for the kernels that decode them where they lie; and what they are multiplied with.</summary>
internal enum DecodeElement
{
    /// <summary>binary16, by floats: <c>vcvtph2ps</c> and multiply-adds.</summary>
    Half,

    /// <summary>8-bit integers, by 16-bit ones: <c>vpmovsxbw</c> and <c>vpdpwssd</c>, twice as many products an instruction as floats have. AVX-512 alone.</summary>
    Int8,
}

/// <summary>Sizes and instructions of a <see cref="DecodeElement"/>.</summary>
internal readonly struct DecodeElementCode(DecodeElement element, short bits)
{
    public string Name => element == DecodeElement.Half ? "fp16" : "int8";

    public int Bytes => element == DecodeElement.Half ? sizeof(ushort) : sizeof(sbyte);

    /// <summary>Bytes of a query's element or of a weight.</summary>
    public int FactorBytes => element == DecodeElement.Half ? sizeof(float) : sizeof(short);

    /// <summary>Elements of a vector, once they are as wide as their factors.</summary>
    public int Lanes => bits / 8 / FactorBytes;

    public bool IsInteger => element == DecodeElement.Int8;

    public void Widen(Assembler k, Vec to, Mem from)
    {
        if (IsInteger) k.Vpmovsxbw(to, from);
        else k.Vcvtph2ps(to, from);
    }

    public void MultiplyAdd(Assembler k, Vec sum, Vec factor, Vec element)
    {
        if (IsInteger) k.Vpdpwssd(sum, factor, element);
        else k.Vfmadd231ps(sum, factor, element);
    }
}
