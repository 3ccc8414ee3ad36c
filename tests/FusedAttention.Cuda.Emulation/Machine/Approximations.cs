using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;

namespace FusedAttention.Cuda.Emulation.Machine;

/// <summary>What the special function unit of the hardware approximates to an error of some units in the last place: here to half a unit. So an error that only the hardware's own approximation has does not show.</summary>
internal static class Approximations
{
    /// <summary>2^x.</summary>
    public readonly struct Exp2 : IUnary
    {
        public static Vector512<uint> Of(Vector512<uint> a)
        {
            Vector512<float> x = a.AsSingle();
            (Vector512<double> lower, Vector512<double> upper) = Vector512.Widen(x);
            Vector512<float> result = Vector512.Narrow(PowerOf2(lower), PowerOf2(upper));
            return Vector512.ConditionalSelect(Vector512.Equals(x, x).AsUInt32(), result.AsUInt32(), Vector512.Create(Floats.NotANumber));
        }

        /// <summary>2^n 2^f with |f| up to a half: Taylor's series of e^(f ln 2) to degree 11, 1e-14.</summary>
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        private static Vector512<double> PowerOf2(Vector512<double> x)
        {
            x = Vector512.Min(Vector512.Max(x, Vector512.Create(-300.0)), Vector512.Create(300.0));

            // Added and taken away, it rounds to an integer, which its sum has in the lowest bits.
            Vector512<double> magic = Vector512.Create(6755399441055744.0), shifted = x + magic, f = x - (shifted - magic);
            Vector512<double> sum = Vector512.Create(4.4455382718708116e-10);
            sum = Vector512.FusedMultiplyAdd(sum, f, Vector512.Create(7.0549116208011235e-9));
            sum = Vector512.FusedMultiplyAdd(sum, f, Vector512.Create(1.0178086009239700e-7));
            sum = Vector512.FusedMultiplyAdd(sum, f, Vector512.Create(1.3215486790144309e-6));
            sum = Vector512.FusedMultiplyAdd(sum, f, Vector512.Create(1.5252733804059840e-5));
            sum = Vector512.FusedMultiplyAdd(sum, f, Vector512.Create(1.5403530393381609e-4));
            sum = Vector512.FusedMultiplyAdd(sum, f, Vector512.Create(1.3333558146428443e-3));
            sum = Vector512.FusedMultiplyAdd(sum, f, Vector512.Create(9.6181291076284772e-3));
            sum = Vector512.FusedMultiplyAdd(sum, f, Vector512.Create(5.5504108664821580e-2));
            sum = Vector512.FusedMultiplyAdd(sum, f, Vector512.Create(2.4022650695910071e-1));
            sum = Vector512.FusedMultiplyAdd(sum, f, Vector512.Create(6.9314718055994531e-1));
            sum = Vector512.FusedMultiplyAdd(sum, f, Vector512<double>.One);
            Vector512<double> power = ((shifted.AsInt64() + Vector512.Create(1023L)) << 52).AsDouble();
            return sum * power;
        }
    }

    public readonly struct Log2 : IScalar<float, float, float>
    {
        public static float Of(float a, float b) => Number(Math.Log2(a));
    }

    public readonly struct ReciprocalSquareRoot : IScalar<float, float, float>
    {
        public static float Of(float a, float b) => Number(1 / Math.Sqrt(a));
    }

    public readonly struct Tanh : IScalar<float, float, float>
    {
        public static float Of(float a, float b) => Number(Math.Tanh(a));
    }

    private static float Number(double value) => double.IsNaN(value) ? BitConverter.UInt32BitsToSingle(Floats.NotANumber) : (float)value;
}
