using System.Runtime.CompilerServices;
using FusedAttention.Cpu.Numerics;

namespace FusedAttention.Cpu.Decode;

/// <summary>
/// Where the factor 2^112 goes that <see cref="UnrebasedFloat16Element"/> leaves out. Multiplying by powers of two is exact, so results have the bits of the plain form.
/// </summary>
internal static unsafe class Unrebased<TS, TV>
    where TS : struct, ISimd<TV>
    where TV : unmanaged
{
    /// <summary>
    /// 2^56: half of the missing factor goes into the query beforehand and half into the sum afterwards, so that neither overflows and no product of ordinary size is
    /// subnormal, which would be slow.
    /// </summary>
    public const float SumFactor = 72057594037927936f;

    /// <summary>The factor on a sum over plain keys when the query has been scaled all the same.</summary>
    public const float PlainSumFactor = 1 / SumFactor;

    /// <summary>The factor on weights, which are at most 1.</summary>
    public const float WeightFactor = HalfBits.Rebase;

    /// <summary>2^40: queries up to it, scaled by 2^56 and multiplied by the largest binary16, are still far from overflow.</summary>
    public const float LargestQuery = 1099511627776f;

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void Multiply(float* values, nint count, float factor)
    {
        TV f = TS.Create(factor);
        for (nint i = 0; i < count; i += TS.Width) TS.Store(values + i, TS.Multiply(TS.Load(values + i), f));
    }
}
