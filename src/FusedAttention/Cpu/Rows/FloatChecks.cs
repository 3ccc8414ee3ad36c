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
    /// <remarks>Four chains: two loads a cycle where two chains of four cycles' latency manage a load in two cycles, 0.25 % against 0.5 % of a prefill of 512 tokens for each of Q and K.</remarks>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static bool AnyAbove(float limit, float* numbers, nint count)
    {
        TV squares0 = TS.Zero, squares1 = TS.Zero, squares2 = TS.Zero, squares3 = TS.Zero;
        float* end = numbers + count;
        for (; numbers + (4 * TS.Width) <= end; numbers += 4 * TS.Width)
        {
            TV a = TS.Load(numbers), b = TS.Load(numbers + TS.Width), c = TS.Load(numbers + (2 * TS.Width)), d = TS.Load(numbers + (3 * TS.Width));
            squares0 = TS.MultiplyAdd(a, a, squares0);
            squares1 = TS.MultiplyAdd(b, b, squares1);
            squares2 = TS.MultiplyAdd(c, c, squares2);
            squares3 = TS.MultiplyAdd(d, d, squares3);
        }

        float rest = 0;
        for (; numbers < end; numbers++) rest += *numbers * *numbers;
        return !(TS.Sum(TS.Add(TS.Add(squares0, squares1), TS.Add(squares2, squares3))) + rest <= limit * limit);
    }

    /// <summary>Whether a number is infinite or NaN.</summary>
    public static bool AnyNotFinite(float* numbers, nint count)
    {
        TV check = TS.Zero;
        AddNotFinite(numbers, count, ref check);
        return TS.Sum(check) != 0;
    }

    /// <summary>Leaves <paramref name="check"/> 0 in all lanes if it was and every number is finite: a product with 0 is 0 unless the other factor is infinite or NaN.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void AddNotFinite(float* numbers, nint count, ref TV check)
    {
        TV check0 = TS.Zero, check1 = TS.Zero, check2 = TS.Zero, check3 = TS.Zero;
        float* end = numbers + count;
        for (; numbers + (4 * TS.Width) <= end; numbers += 4 * TS.Width)
        {
            check0 = TS.MultiplyAdd(TS.Load(numbers), TS.Zero, check0);
            check1 = TS.MultiplyAdd(TS.Load(numbers + TS.Width), TS.Zero, check1);
            check2 = TS.MultiplyAdd(TS.Load(numbers + (2 * TS.Width)), TS.Zero, check2);
            check3 = TS.MultiplyAdd(TS.Load(numbers + (3 * TS.Width)), TS.Zero, check3);
        }

        float rest = 0;
        for (; numbers < end; numbers++) rest += *numbers * 0;
        check = TS.Add(check, TS.Add(TS.Add(TS.Add(check0, check1), TS.Add(check2, check3)), TS.Create(rest)));
    }
}
