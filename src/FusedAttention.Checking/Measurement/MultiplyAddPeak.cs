using System.Diagnostics;
using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.Arm;
using System.Runtime.Intrinsics.X86;

namespace FusedAttention.Checking.Measurement;

/// <summary>The rate of fused multiply-adds on 32-bit floats that nothing but the arithmetic units limits.</summary>
public static class MultiplyAddPeak
{
    /// <summary>Multiply-adds of one chain in a trial: about 10 ms, long beside the start of a thread and short beside a neighbour's time slice.</summary>
    private const int Steps = 5_000_000;

    // Two ports x 4 cycles of latency need 8 independent chains; 12 and the two operands fit in 16 registers.
    private const int Chains = 12;

    private interface IFused<TV>
    {
        static abstract int Lanes { get; }

        static abstract TV Create(float value);

        static abstract TV MultiplyAdd(TV a, TV b, TV c);

        static abstract TV Max(TV a, TV b);

        static abstract float First(TV a);
    }

    /// <summary>Whether the machine has fused multiply-adds of this width: without them there is no peak worth naming.</summary>
    public static bool IsSupported(CpuInstructionSet instructionSet) => instructionSet switch
    {
        CpuInstructionSet.Scalar or CpuInstructionSet.Vector128 => Fma.IsSupported || AdvSimd.IsSupported,
        CpuInstructionSet.Avx2 => Avx2.IsSupported && Fma.IsSupported,
        CpuInstructionSet.Avx512 => Avx512F.IsSupported,
        _ => false,
    };

    /// <summary>GFLOP/s of all threads together, two operations a multiply-add: the best of the trials that fit in the time.</summary>
    public static double Measure(CpuInstructionSet instructionSet, int threads, TimeSpan time) => instructionSet switch
    {
        CpuInstructionSet.Scalar => Measure<FusedScalar, float>(threads, time),
        CpuInstructionSet.Vector128 => Measure<Fused128, Vector128<float>>(threads, time),
        CpuInstructionSet.Avx2 => Measure<Fused256, Vector256<float>>(threads, time),
        CpuInstructionSet.Avx512 => Measure<Fused512, Vector512<float>>(threads, time),
        _ => throw new ArgumentOutOfRangeException(nameof(instructionSet), instructionSet, "No instruction set of its own."),
    };

    private static double Measure<TF, TV>(int threads, TimeSpan time)
        where TF : struct, IFused<TV>
    {
        float[] sinks = new float[threads];
        double best = 0;
        long start = Stopwatch.GetTimestamp();
        for (int trial = 0; trial < 3 || Stopwatch.GetElapsedTime(start) < time; trial++)
        {
            double seconds = ConcurrentTrial.Run(threads, i => sinks[i] = Loop<TF, TV>(Steps));
            best = Math.Max(best, 2.0 * Chains * TF.Lanes * Steps * threads / seconds / 1e9);
        }

        return best;
    }

    /// <summary>Independent chains in named locals: an array of vectors would live in memory.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization | MethodImplOptions.NoInlining)]
    private static float Loop<TF, TV>(int steps)
        where TF : struct, IFused<TV>
    {
        // The chains converge to a number of normal size, so that no slow path for tiny numbers is met.
        TV x = TF.Create(0.999f);
        TV y = TF.Create(0.001f);
        TV c0 = TF.Create(1), c1 = TF.Create(2), c2 = TF.Create(3), c3 = TF.Create(4), c4 = TF.Create(5), c5 = TF.Create(6);
        TV c6 = TF.Create(7), c7 = TF.Create(8), c8 = TF.Create(9), c9 = TF.Create(10), c10 = TF.Create(11), c11 = TF.Create(12);
        for (int i = 0; i < steps; i++)
        {
            c0 = TF.MultiplyAdd(c0, x, y);
            c1 = TF.MultiplyAdd(c1, x, y);
            c2 = TF.MultiplyAdd(c2, x, y);
            c3 = TF.MultiplyAdd(c3, x, y);
            c4 = TF.MultiplyAdd(c4, x, y);
            c5 = TF.MultiplyAdd(c5, x, y);
            c6 = TF.MultiplyAdd(c6, x, y);
            c7 = TF.MultiplyAdd(c7, x, y);
            c8 = TF.MultiplyAdd(c8, x, y);
            c9 = TF.MultiplyAdd(c9, x, y);
            c10 = TF.MultiplyAdd(c10, x, y);
            c11 = TF.MultiplyAdd(c11, x, y);
        }

        TV all = TF.Max(TF.Max(TF.Max(c0, c1), TF.Max(c2, c3)), TF.Max(TF.Max(c4, c5), TF.Max(c6, c7)));
        return TF.First(TF.Max(all, TF.Max(TF.Max(c8, c9), TF.Max(c10, c11))));
    }

    private readonly struct FusedScalar : IFused<float>
    {
        public static int Lanes => 1;

        public static float Create(float value) => value;

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static float MultiplyAdd(float a, float b, float c) => MathF.FusedMultiplyAdd(a, b, c);

        public static float Max(float a, float b) => MathF.Max(a, b);

        public static float First(float a) => a;
    }

    private readonly struct Fused128 : IFused<Vector128<float>>
    {
        public static int Lanes => Vector128<float>.Count;

        public static Vector128<float> Create(float value) => Vector128.Create(value);

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static Vector128<float> MultiplyAdd(Vector128<float> a, Vector128<float> b, Vector128<float> c)
            => AdvSimd.IsSupported ? AdvSimd.FusedMultiplyAdd(c, a, b) : Fma.MultiplyAdd(a, b, c);

        public static Vector128<float> Max(Vector128<float> a, Vector128<float> b) => Vector128.Max(a, b);

        public static float First(Vector128<float> a) => a.ToScalar();
    }

    private readonly struct Fused256 : IFused<Vector256<float>>
    {
        public static int Lanes => Vector256<float>.Count;

        public static Vector256<float> Create(float value) => Vector256.Create(value);

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static Vector256<float> MultiplyAdd(Vector256<float> a, Vector256<float> b, Vector256<float> c) => Fma.MultiplyAdd(a, b, c);

        public static Vector256<float> Max(Vector256<float> a, Vector256<float> b) => Vector256.Max(a, b);

        public static float First(Vector256<float> a) => a.ToScalar();
    }

    private readonly struct Fused512 : IFused<Vector512<float>>
    {
        public static int Lanes => Vector512<float>.Count;

        public static Vector512<float> Create(float value) => Vector512.Create(value);

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static Vector512<float> MultiplyAdd(Vector512<float> a, Vector512<float> b, Vector512<float> c) => Avx512F.FusedMultiplyAdd(a, b, c);

        public static Vector512<float> Max(Vector512<float> a, Vector512<float> b) => Vector512.Max(a, b);

        public static float First(Vector512<float> a) => a.ToScalar();
    }
}
