using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;

namespace FusedAttention.Cpu.Decode;

/// <summary>AVX2.</summary>
internal readonly unsafe struct IntegerLanes256 : IIntegerLanes
{
    // The halves of two vectors: what lies first in both, and what lies last.
    private const byte FirstHalves = 0x20;
    private const byte LastHalves = 0x31;

    // A pack's quarters in the order of its sources.
    private const byte InOrder = 0b11_01_10_00;

    public static int Width => Vector256<float>.Count;

    /// <summary>The largest lane.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static int MaxAcross(Vector256<int> lanes)
    {
        Vector128<int> quarter = Vector128.Max(lanes.GetLower(), lanes.GetUpper());
        quarter = Vector128.Max(quarter, Vector128.Shuffle(quarter, Vector128.Create(2, 3, 0, 1)));
        return Math.Max(quarter[0], quarter[1]);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static int LargestBits(float* values, int first, int end)
    {
        Vector256<int> magnitude = Vector256.Create(int.MaxValue);
        Vector256<int> largest = Vector256<int>.Zero;
        for (int i = first; i < end; i += Width) largest = Vector256.Max(largest, Vector256.Load((int*)values + i) & magnitude);
        return MaxAcross(largest);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Round(float* values, float factor, int first, int end, short* words)
    {
        Vector256<float> all = Vector256.Create(factor);
        for (int i = first; i < end; i += 2 * Width)
        {
            Vector256<int> low = Avx.ConvertToVector256Int32(Vector256.Load(values + i) * all), high = Avx.ConvertToVector256Int32(Vector256.Load(values + i + Width) * all);
            Avx2.Permute4x64(Avx2.PackSignedSaturate(low, high).AsInt64(), InOrder).AsInt16().Store(words + i);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void AddSums(int* sums, float step, float* output, int dim)
    {
        Vector256<float> factor = Vector256.Create(step);
        for (int d = 0; d < dim; d += 2 * Width)
        {
            Vector256<int> low = Vector256.Load(sums + d), high = Vector256.Load(sums + d + Width);
            Add(Avx2.Permute2x128(low, high, FirstHalves), output + d);
            Add(Avx2.Permute2x128(low, high, LastHalves), output + d + Width);
            Vector256<int>.Zero.Store(sums + d);
            Vector256<int>.Zero.Store(sums + d + Width);
        }

        void Add(Vector256<int> sum, float* at) => Fma.MultiplyAdd(Avx.ConvertToVector256Single(sum), factor, Vector256.Load(at)).Store(at);
    }
}
