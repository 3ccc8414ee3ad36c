using System.Runtime.CompilerServices;
using FusedAttention.Cpu.Numerics;
using FusedAttention.Problems;

namespace FusedAttention.Cpu.Rows;

/// <summary>Looks for numbers that leave <see cref="FloatRange"/>: one multiply-add a vector, no branch.</summary>
internal static unsafe class FloatChecks<TS, TV>
    where TS : struct, ISimd<TV>
    where TV : unmanaged
{
    /// <summary>
    /// Whether a number may be infinite, NaN or of a larger magnitude than <paramref name="limit"/>, which is at most 2^63: by the sum of squares, so that many numbers almost as large count too.
    /// </summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static bool AnyAbove(float limit, float* numbers, nint count)
    {
        TV squares0 = TS.Zero, squares1 = TS.Zero;
        nint i = 0;
        for (; i + (2 * TS.Width) <= count; i += 2 * TS.Width)
        {
            TV low = TS.Load(numbers + i);
            TV high = TS.Load(numbers + i + TS.Width);
            squares0 = TS.MultiplyAdd(low, low, squares0);
            squares1 = TS.MultiplyAdd(high, high, squares1);
        }

        float rest = 0;
        for (; i < count; i++) rest += numbers[i] * numbers[i];
        return !(TS.Sum(TS.Add(squares0, squares1)) + rest <= limit * limit);
    }

    /// <summary>Whether a number is infinite or NaN.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static bool AnyNotFinite(float* numbers, nint count)
    {
        // A product with 0 is 0 unless the other factor is infinite or NaN.
        TV check0 = TS.Zero, check1 = TS.Zero;
        nint i = 0;
        for (; i + (2 * TS.Width) <= count; i += 2 * TS.Width)
        {
            check0 = TS.MultiplyAdd(TS.Load(numbers + i), TS.Zero, check0);
            check1 = TS.MultiplyAdd(TS.Load(numbers + i + TS.Width), TS.Zero, check1);
        }

        float rest = 0;
        for (; i < count; i++) rest += numbers[i] * 0;
        return TS.Sum(TS.Add(check0, check1)) + rest != 0;
    }
}
