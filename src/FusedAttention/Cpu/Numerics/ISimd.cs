namespace FusedAttention.Cpu.Numerics;

/// <summary>
/// The vector operations that kernels are written in, one implementation an instruction set. <typeparamref name="TV"/> is the bare vector type
/// (<c>Vector256&lt;float&gt;</c>, or <c>float</c> for the scalar variant), so that values stay in registers and every call folds to one instruction or a few.
/// </summary>
/// <remarks>
/// Lane order is memory order everywhere. Masks are vectors whose lanes are all ones or all zeros. Sums over lanes are taken in one fixed order, so that results do
/// not depend on which code path asked.
/// </remarks>
internal unsafe interface ISimd<TV>
    where TV : unmanaged
{
    /// <summary>Lanes of a vector: a power of two.</summary>
    static abstract int Width { get; }

    /// <summary>Whether there are 32 vector registers rather than 16.</summary>
    static abstract bool HasManyRegisters { get; }

    static abstract TV Zero { get; }

    /// <summary>0, 1, 2, ...</summary>
    static abstract TV Iota { get; }

    static abstract TV Create(float value);

    static abstract TV Load(float* source);

    /// <summary>Exact widening, infinities, NaN and subnormals included.</summary>
    static abstract TV LoadHalf(ushort* source);

    /// <summary>binary16 values times 2^-112, exact; infinities and NaN come out as finite numbers (see <see cref="AnySpecialHalf"/>). Half the work of <see cref="LoadHalf"/>.</summary>
    static abstract TV LoadHalfUnrebased(ushort* source);

    static abstract TV LoadBFloat16(ushort* source);

    static abstract TV LoadInt8(sbyte* source);

    /// <summary>Exact widening of <see cref="Float8E4M3"/>, NaN and subnormals included.</summary>
    static abstract TV LoadFloat8(byte* source);

    /// <summary>The same with 480 in place of NaN: half the work.</summary>
    static abstract TV LoadFiniteFloat8(byte* source);

    /// <summary>Whether one of <paramref name="dim"/> binary16 values in one of <paramref name="count"/> rows is infinite or NaN.</summary>
    static abstract bool AnySpecialHalf(nint* rows, nint offset, int count, int dim);

    /// <summary>Asks for a cache line, towards the second-level cache. Never faults.</summary>
    static abstract void Prefetch(byte* address);

    /// <summary>All ones where the byte is not zero.</summary>
    static abstract TV LoadMask(byte* source);

    static abstract void Store(float* destination, TV value);

    /// <summary>Rounds to nearest even.</summary>
    static abstract void StoreBFloat16(ushort* destination, TV value);

    /// <summary>Rounds to nearest even; overflow becomes infinity.</summary>
    static abstract void StoreHalf(ushort* destination, TV value);

    static abstract TV Add(TV a, TV b);

    static abstract TV Subtract(TV a, TV b);

    static abstract TV Multiply(TV a, TV b);

    static abstract TV Divide(TV a, TV b);

    /// <summary>a * b + c, fused where the hardware can: never a software routine.</summary>
    static abstract TV MultiplyAdd(TV a, TV b, TV c);

    /// <summary>The larger; when either is NaN, any of the two.</summary>
    static abstract TV Max(TV a, TV b);

    static abstract TV Abs(TV a);

    static abstract TV LessThan(TV a, TV b);

    static abstract TV Equal(TV a, TV b);

    /// <summary>a where the mask is set, else b.</summary>
    static abstract TV Select(TV mask, TV a, TV b);

    /// <summary>All ones where a is at most b; zeros where one is NaN.</summary>
    static abstract TV LessOrEqual(TV a, TV b);

    /// <summary>Bit by bit, for masks.</summary>
    static abstract TV And(TV a, TV b);

    /// <summary>Bit by bit, for masks.</summary>
    static abstract TV Or(TV a, TV b);

    /// <summary>Bit by bit, for masks.</summary>
    static abstract TV Not(TV a);

    /// <summary>One bit a lane of a mask, the first lane's lowest.</summary>
    static abstract uint Bits(TV mask);

    static abstract TV Sqrt(TV a);

    static abstract TV Floor(TV a);

    /// <summary>table[(int)index] lane by lane; every index lies in the table.</summary>
    static abstract TV Gather(float* table, TV index);

    /// <summary>Splits a positive normal number into 2^n and a mantissa between the square roots of 1/2 and 2, and returns n.</summary>
    static abstract TV SplitLogarithm(TV x, out TV mantissa);

    /// <summary>Splits x into an integer n and a fraction from -1/2 to 1/2. The result stands for n, in a form that only <see cref="ScaleByExponent"/> reads.</summary>
    static abstract TV SplitExponent(TV x, out TV fraction);

    /// <summary><paramref name="value"/> * 2^n for the n that <see cref="SplitExponent"/> took from <paramref name="x"/>; 0 where x is below -126, <paramref name="value"/> where it is NaN.</summary>
    static abstract TV ScaleByExponent(TV value, TV exponent, TV x);

    static abstract float First(TV a);

    static abstract float Sum(TV a);

    static abstract float MaxAcross(TV a);

    /// <summary>Stores the eight sums over lanes times <paramref name="factor"/>, in order.</summary>
    static abstract void StoreSums(float* destination, float factor, TV a0, TV a1, TV a2, TV a3, TV a4, TV a5, TV a6, TV a7);

    /// <summary>The same as four rows of two, <paramref name="stride"/> floats apart.</summary>
    static abstract void StoreSumPairs(float* destination, nint stride, float factor, TV a0, TV a1, TV a2, TV a3, TV a4, TV a5, TV a6, TV a7);

    /// <summary>
    /// Stores the transpose of a square block: <c>destination[d * destinationStride + row] = rows[row][column + d]</c> for <see cref="TransposeSize"/> rows and columns.
    /// </summary>
    static abstract void Transpose(nint* rows, long column, float* destination, int destinationStride);

    /// <summary>Two vectors, as they lie in memory one after the other, to their even and their odd elements.</summary>
    static abstract void Deinterleave(TV first, TV second, out TV even, out TV odd);

    /// <summary>The way back.</summary>
    static abstract void Interleave(TV even, TV odd, out TV first, out TV second);

    /// <summary>Rows and columns that <see cref="Transpose"/> moves at once; divides twice the width.</summary>
    static abstract int TransposeSize { get; }
}
