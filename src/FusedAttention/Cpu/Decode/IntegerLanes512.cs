using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;

namespace FusedAttention.Cpu.Decode;

/// <summary>AVX-512.</summary>
internal readonly unsafe struct IntegerLanes512 : IIntegerLanes
{
    public static int Width => Vector512<float>.Count;

    private static ReadOnlySpan<int> EvenFours => [0, 1, 2, 3, 16, 17, 18, 19, 4, 5, 6, 7, 20, 21, 22, 23];

    private static ReadOnlySpan<int> OddFours => [8, 9, 10, 11, 24, 25, 26, 27, 12, 13, 14, 15, 28, 29, 30, 31];

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static int LargestBits(float* values, int first, int end)
    {
        Vector512<int> magnitude = Vector512.Create(int.MaxValue);
        Vector512<int> largest = Vector512<int>.Zero;
        for (int i = first; i < end; i += Width) largest = Vector512.Max(largest, Vector512.Load((int*)values + i) & magnitude);
        return IntegerLanes256.MaxAcross(Vector256.Max(largest.GetLower(), largest.GetUpper()));
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Round(float* values, float factor, int first, int end, short* words)
    {
        Vector512<float> all = Vector512.Create(factor);
        for (int i = first; i < end; i += Width) Avx512F.ConvertToVector256Int16WithSaturation(Avx512F.ConvertToVector512Int32(Vector512.Load(values + i) * all)).Store(words + i);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void AddSums(int* sums, float step, float* output, int dim)
    {
        Vector512<float> factor = Vector512.Create(step);
        Vector512<int> even = Vector512.Create(EvenFours), odd = Vector512.Create(OddFours);
        for (int d = 0; d < dim; d += 2 * Width)
        {
            Vector512<int> low = Vector512.Load(sums + d), high = Vector512.Load(sums + d + Width);
            Add(Avx512F.PermuteVar16x32x2(low, even, high), output + d);
            Add(Avx512F.PermuteVar16x32x2(low, odd, high), output + d + Width);
            Vector512<int>.Zero.Store(sums + d);
            Vector512<int>.Zero.Store(sums + d + Width);
        }

        void Add(Vector512<int> sum, float* at) => Avx512F.FusedMultiplyAdd(Avx512F.ConvertToVector512Single(sum), factor, Vector512.Load(at)).Store(at);
    }
}
