namespace FusedAttention.Cuda.Ptx;

/// <summary>Widens 8-bit elements, "codes", four in a register, to pairs of 16 bits: all codes are exact in binary16 and in bfloat16.</summary>
internal sealed class EightBits
{
    private readonly PtxKernel _k;
    private readonly ElementFormat _from;
    private readonly ElementFormat _to;
    private readonly bool _converts;
    private readonly I32? _one;
    private readonly I32 _offset;

    /// <param name="k">The kernel.</param>
    /// <param name="from">What the codes are.</param>
    /// <param name="to">What they become, 16 bits.</param>
    public EightBits(PtxKernel k, ElementFormat from, ElementFormat to)
    {
        (_k, _from, _to) = (k, from, to);
        bool isHalf = to == ElementFormat.Float16;

        // Hopper has an instruction, which gives binary16.
        _converts = from == ElementFormat.Float8E4M3 && k.Target == PtxTarget.Sm90a;
        if (!isHalf) _one = k.Variable("factor_of_codes", (I32)(from == ElementFormat.Int8 ? 0x3F803F80 : 0x7B807B80));
        _offset = k.Variable("offset_of_codes", (I32)(from != ElementFormat.Int8 ? isHalf ? 0x5C005C00 : unchecked((int)0x80008000) : 0x64806480));
    }

    /// <summary>One code, in the low byte of a register whose other bytes are zero, in 32 bits.</summary>
    public static F32 Widen(ElementFormat format, I32 code)
    {
        if (format == ElementFormat.Int8) return ((code << 24) >> 24).ToF32();

        // The fields where those of a float are, 2^120 too small: subnormal codes are subnormal floats then. What would be 480 is NaN.
        F32 magnitude = ((code & 0x7F) << 20).AsF32() * MathF.ScaleB(1, 120);
        I32 signed = magnitude.AsI32() | ((code & 0x80) << 24);
        return I32.Select((code & 0x7F).Is(0x7F), 0x7FC00000, signed).AsF32();
    }

    /// <summary>The code nearest to a number, ties to even, in the low byte of a register; what its other bytes are means nothing. Beyond the range it is the largest code.</summary>
    /// <param name="format">What it is. Whole numbers go from -127 to 127; NaN is a NaN of the other format.</param>
    /// <param name="number">The number.</param>
    /// <remarks>By integers on every device: Ampere has no instruction for it, and this way the kernels are the same.</remarks>
    public static I32 Nearest(ElementFormat format, F32 number)
    {
        if (format == ElementFormat.Int8) return I32.From("cvt.rni.s32.f32", F32.Min(F32.Max(number, -127), 127));

        // 448 is 0x43E00000. From 2^-6 on the fields are moved by 20 bits and rounded by what is shifted out; below it a sum with 2^14, whose last place is 2^-9, has the code in its last bits.
        I32 bits = number.AsI32(), magnitude = bits & 0x7FFFFFFF, inRange = I32.Min(magnitude, 0x43E00000);
        I32 normal = ((inRange + 0x7FFFF + ((inRange >>> 20) & 1)) >>> 20) - (120 << 3);
        I32 subnormal = F32.From("add.rn.f32", inRange.AsF32(), (F32)16384f).AsI32() - BitConverter.SingleToInt32Bits(16384);
        I32 code = I32.Select(inRange < 121 << 23, subnormal, normal) | ((bits >>> 24) & 0x80);
        return I32.Select(magnitude > 0x7F800000, 0x7F, code);
    }

    /// <summary>Codes 0 and 1, and 2 and 3.</summary>
    public (Pair First, Pair Second) Neighbours(Pair codes)
    {
        I32 four = codes.AsI32();
        return _from == ElementFormat.Int8 ? Integers(four, 0x4140, 0x4342) : _converts ? Converted(four) : Floats(four, (0x1404, 0x9988), (0x3424, 0xBBAA));
    }

    /// <summary>Codes 0 and 2, and 1 and 3.</summary>
    public (Pair First, Pair Second) Alternating(Pair codes)
    {
        I32 four = codes.AsI32();
        return _from == ElementFormat.Int8 ? Integers(four, 0x4240, 0x4341) : _converts ? Converted(Permuted(four, 0, 0x3120)) : Floats(four, (0x2404, 0xAA88), (0x3414, 0xBB99));
    }

    /// <summary>Whole numbers, by putting their bytes into numbers whose last place is 1.</summary>
    /// <param name="four">The codes.</param>
    /// <param name="first">For <c>prmt</c>: two of the bytes, with a byte of the other operand behind each.</param>
    /// <param name="second">The two others.</param>
    private (Pair First, Pair Second) Integers(I32 four, int first, int second)
    {
        if (_to == ElementFormat.Float16)
        {
            // 0x6400 is 1,024: with x + 128 in its low byte it is x + 1,152.
            I32 biased = four ^ unchecked((int)0x80808080);
            return (Difference(first), Difference(second));

            Pair Difference(int places) => Packed("sub.f16x2", Permuted(biased, 0x64646464, places), _offset);
        }

        // 0x4300 is 128 and has seven bits behind it; with the sign bit there instead it is 128 or 256, what is to be taken away.
        I32 low = four & 0x7F7F7F7F, sign = four & unchecked((int)0x80808080);
        return (Sum(first), Sum(second));

        Pair Sum(int places) => Packed("fma.rn.bf16x2", Permuted(low, 0x43434343, places), _one!, Permuted(sign, unchecked((int)0xC3C3C3C3), places));
    }

    /// <summary>By the instruction; bfloat16 by way of binary16 and 32 bits.</summary>
    private (Pair First, Pair Second) Converted(I32 four)
    {
        B16 low = B16.In(_k), high = B16.In(_k);
        _k.Emit("mov.b32", new Vector(low, high), four);
        return (Two(low), Two(high));

        Pair Two(B16 codes)
        {
            Pair halves = Packed("cvt.rn.f16x2.e4m3x2", codes);
            if (_to == ElementFormat.Float16) return halves;
            (F32 first, F32 second) = halves.Widen(ElementFormat.Float16);
            return Pair.Of(_to, first, second);
        }
    }

    /// <summary>By moving their fields to where those of the wider form are, a power of two too small; NaN, which would be a number there, by its bits.</summary>
    /// <param name="four">The codes.</param>
    /// <param name="first">For <c>prmt</c>: two of the bytes, behind a zero each; and the signs of the same two, twice each.</param>
    /// <param name="second">The same of the two others.</param>
    private (Pair First, Pair Second) Floats(I32 four, (int Bytes, int Signs) first, (int Bytes, int Signs) second)
    {
        // Where the code is NaN, 0x7F or 0xFF, this has a sign.
        I32 carried = (four & 0x7F7F7F7F) + 0x01010101;
        return (Two(first), Two(second));

        Pair Two((int Bytes, int Signs) places)
        {
            I32 high = Permuted(four, 0, places.Bytes);
            I32 magnitude = _to == ElementFormat.Float16 ? (high >>> 1) & 0x3F803F80 : (high >>> 4) & 0x07F007F0;
            I32 small = magnitude | (high & unchecked((int)0x80008000));
            Pair number = _to == ElementFormat.Float16 ? Packed("mul.f16x2", small, _offset) : Packed("fma.rn.bf16x2", small, _one!, _offset);
            var result = Pair.In(_k);
            result.Set(number.AsI32() | Permuted(carried, 0, places.Signs));
            return result;
        }
    }

    private I32 Permuted(I32 low, int high, int selector)
    {
        I32 result = I32.In(_k);
        _k.Emit("prmt.b32", result, low, (I32)high, (I32)selector);
        return result;
    }

    private Pair Packed(string opcode, params ReadOnlySpan<Value> operands)
    {
        Pair result = Pair.In(_k);
        _k.Emit(opcode, [result, .. operands]);
        return result;
    }
}
