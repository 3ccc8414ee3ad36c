using System.Numerics;
using System.Runtime.InteropServices;

namespace FusedAttention.Cuda.Ptx;

/// <summary>
/// Division of numbers from 0 to 2^31 - 1 by one that is known ahead, as a product: with s bits that hold the divisor less one, <c>n / d = 2 n x Factor >> 32 + s</c> where Factor is 2^(31 + s) / d, rounded up. What
/// rounding adds is below d of 2^(31 + s), and times n below 2^(31 + s), so the quotient does not change. A quotient by a register takes some 25 instructions, one after the other.
/// </summary>
/// <param name="Factor">Without a sign.</param>
/// <param name="Shift">s.</param>
[StructLayout(LayoutKind.Auto)]
internal readonly record struct Reciprocal(uint Factor, int Shift)
{
    /// <param name="divisor">From 1 on.</param>
    public static Reciprocal Of(int divisor)
    {
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(divisor);
        int shift = 32 - BitOperations.LeadingZeroCount((uint)(divisor - 1));
        ulong power = 1UL << (31 + shift);
        return new((uint)((power + (ulong)divisor - 1) / (ulong)divisor), shift);
    }

    /// <summary>The quotient, as the device finds it.</summary>
    public int Divide(int number) => (int)((uint)(((ulong)((uint)number << 1) * Factor) >> 32) >> Shift);
}
