using System.Runtime.CompilerServices;
using FusedAttention.Cpu.Numerics;
using FusedAttention.Problems;

namespace FusedAttention.Cpu.Rows;

/// <summary>Looks for numbers that leave <see cref="FloatRange"/>: two operations a vector, no branch.</summary>
internal static unsafe class FloatChecks<TS, TV>
    where TS : struct, ISimd<TV>
    where TV : unmanaged
{
    /// <summary>Whether a number is infinite, NaN or of a larger magnitude than <paramref name="limit"/>.</summary>
    public static bool AnyAbove(float limit, float* numbers, nint count) => AnyOverflow(numbers, count, float.MaxValue / limit);

    /// <summary>Whether a number is infinite or NaN.</summary>
    public static bool AnyNotFinite(float* numbers, nint count) => AnyOverflow(numbers, count, 1);

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static bool AnyOverflow(float* numbers, nint count, float factor)
    {
        // A product with 0 is 0 unless the other factor is infinite or NaN.
        TV check = TS.Zero;
        TV scale = TS.Create(factor);
        nint i = 0;
        for (; i + TS.Width <= count; i += TS.Width) check = TS.MultiplyAdd(TS.Multiply(TS.Load(numbers + i), scale), TS.Zero, check);
        float rest = 0;
        for (; i < count; i++) rest += numbers[i] * factor * 0;
        return TS.Sum(check) + rest != 0;
    }
}
