using System.Numerics.Tensors;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;

namespace FusedAttention.Benchmarks.DropIn;

/// <summary>
/// Attention as a careful engine has it: AVX2 and FMA, an online softmax over blocks of keys that stay in the first-level cache for a tile of rows, four keys at a time for the products with a query, 64 elements of the output in
/// registers while the values of a block are added, vectorised exponentials, nothing of size queries x keys.
/// </summary>
internal static class Avx2Attention
{
    /// <summary>Keys of a block: 32 of 128 floats, keys and values, are 32 KB, so that they stay near while a tile's rows pass.</summary>
    private const int BlockKeys = 32;

    /// <summary>Rows that pass over a block before the next one is read.</summary>
    private const int TileRows = 16;

    public static bool IsSupported => Avx2.IsSupported && Fma.IsSupported;

    public static void Forward(EngineCall call, float[] output)
    {
        Span<float> maxima = stackalloc float[TileRows], sums = stackalloc float[TileRows], scores = stackalloc float[BlockKeys];
        for (int head = 0; head < EngineCall.QueryHeads; head++)
        {
            ReadOnlySpan<float> keys = call.HeadOf(call.Key, head), values = call.HeadOf(call.Value, head);
            for (int first = 0; first < call.NewTokens; first += TileRows)
            {
                int rows = Math.Min(TileRows, call.NewTokens - first);
                maxima.Fill(float.NegativeInfinity);
                sums.Clear();
                for (int r = 0; r < rows; r++) Row(output, first + r, head).Clear();
                int visible = call.Visible(first + rows - 1);
                for (int block = 0; block < visible; block += BlockKeys)
                {
                    for (int r = 0; r < rows; r++)
                    {
                        int count = Math.Min(BlockKeys, call.Visible(first + r) - block);
                        if (count <= 0) continue;
                        ReadOnlySpan<float> query = call.Query.AsSpan(((((first + r) * EngineCall.QueryHeads) + head) * EngineCall.Dim), EngineCall.Dim);
                        Block(query, keys[(block * EngineCall.Dim)..], values[(block * EngineCall.Dim)..], scores[..count], call.Scale, ref maxima[r], ref sums[r], Row(output, first + r, head));
                    }
                }

                for (int r = 0; r < rows; r++)
                {
                    Span<float> row = Row(output, first + r, head);
                    TensorPrimitives.Multiply(row, 1 / sums[r], row);
                }
            }
        }
    }

    private static Span<float> Row(float[] output, int token, int head) => output.AsSpan(((token * EngineCall.QueryHeads) + head) * EngineCall.Dim, EngineCall.Dim);

    private static void Block(ReadOnlySpan<float> query, ReadOnlySpan<float> keys, ReadOnlySpan<float> values, Span<float> scores, float scale, ref float max, ref float sum, Span<float> output)
    {
        Products(query, keys, scores);
        TensorPrimitives.Multiply(scores, scale, scores);
        float newMax = MathF.Max(max, TensorPrimitives.Max(scores)), rescale = MathF.Exp(max - newMax);
        TensorPrimitives.Subtract(scores, newMax, scores);
        TensorPrimitives.Exp(scores, scores);
        sum = (sum * rescale) + TensorPrimitives.Sum(scores);
        max = newMax;
        Add(scores, values, rescale, output);
    }

    /// <summary>scores[j] = query . key j, four keys at a time: a vector of the query is loaded once for four multiply-adds, in eight chains.</summary>
    private static void Products(ReadOnlySpan<float> query, ReadOnlySpan<float> keys, Span<float> scores)
    {
        ref float q = ref MemoryMarshal.GetReference(query);
        ref float k = ref MemoryMarshal.GetReference(keys);
        int j = 0;
        for (; j + 4 <= scores.Length; j += 4)
        {
            ref float k0 = ref Unsafe.Add(ref k, j * EngineCall.Dim);
            ref float k1 = ref Unsafe.Add(ref k0, EngineCall.Dim);
            ref float k2 = ref Unsafe.Add(ref k1, EngineCall.Dim);
            ref float k3 = ref Unsafe.Add(ref k2, EngineCall.Dim);
            Vector256<float> a0 = default, a1 = default, a2 = default, a3 = default, b0 = default, b1 = default, b2 = default, b3 = default;
            for (nuint d = 0; d < EngineCall.Dim; d += 16)
            {
                Vector256<float> low = Vector256.LoadUnsafe(ref q, d), high = Vector256.LoadUnsafe(ref q, d + 8);
                a0 = Fma.MultiplyAdd(low, Vector256.LoadUnsafe(ref k0, d), a0);
                a1 = Fma.MultiplyAdd(low, Vector256.LoadUnsafe(ref k1, d), a1);
                a2 = Fma.MultiplyAdd(low, Vector256.LoadUnsafe(ref k2, d), a2);
                a3 = Fma.MultiplyAdd(low, Vector256.LoadUnsafe(ref k3, d), a3);
                b0 = Fma.MultiplyAdd(high, Vector256.LoadUnsafe(ref k0, d + 8), b0);
                b1 = Fma.MultiplyAdd(high, Vector256.LoadUnsafe(ref k1, d + 8), b1);
                b2 = Fma.MultiplyAdd(high, Vector256.LoadUnsafe(ref k2, d + 8), b2);
                b3 = Fma.MultiplyAdd(high, Vector256.LoadUnsafe(ref k3, d + 8), b3);
            }

            // Two levels of horizontal sums leave one number a key in each half.
            Vector256<float> pairs = Avx.HorizontalAdd(Avx.HorizontalAdd(a0 + b0, a1 + b1), Avx.HorizontalAdd(a2 + b2, a3 + b3));
            (pairs.GetLower() + pairs.GetUpper()).CopyTo(scores[j..]);
        }

        for (; j < scores.Length; j++) scores[j] = TensorPrimitives.Dot(query, keys.Slice(j * EngineCall.Dim, EngineCall.Dim));
    }

    /// <summary>output = output * rescale + weights * values, 64 elements in eight registers over all keys of the block.</summary>
    private static void Add(ReadOnlySpan<float> weights, ReadOnlySpan<float> values, float rescale, Span<float> output)
    {
        ref float o = ref MemoryMarshal.GetReference(output);
        ref float v = ref MemoryMarshal.GetReference(values);
        for (nuint d = 0; d < EngineCall.Dim; d += 64)
        {
            Vector256<float> o0 = Vector256.LoadUnsafe(ref o, d) * rescale, o1 = Vector256.LoadUnsafe(ref o, d + 8) * rescale, o2 = Vector256.LoadUnsafe(ref o, d + 16) * rescale, o3 = Vector256.LoadUnsafe(ref o, d + 24) * rescale;
            Vector256<float> o4 = Vector256.LoadUnsafe(ref o, d + 32) * rescale, o5 = Vector256.LoadUnsafe(ref o, d + 40) * rescale, o6 = Vector256.LoadUnsafe(ref o, d + 48) * rescale, o7 = Vector256.LoadUnsafe(ref o, d + 56) * rescale;
            ref float at = ref Unsafe.Add(ref v, d);
            for (int j = 0; j < weights.Length; j++)
            {
                Vector256<float> weight = Vector256.Create(weights[j]);
                o0 = Fma.MultiplyAdd(weight, Vector256.LoadUnsafe(ref at), o0);
                o1 = Fma.MultiplyAdd(weight, Vector256.LoadUnsafe(ref at, 8), o1);
                o2 = Fma.MultiplyAdd(weight, Vector256.LoadUnsafe(ref at, 16), o2);
                o3 = Fma.MultiplyAdd(weight, Vector256.LoadUnsafe(ref at, 24), o3);
                o4 = Fma.MultiplyAdd(weight, Vector256.LoadUnsafe(ref at, 32), o4);
                o5 = Fma.MultiplyAdd(weight, Vector256.LoadUnsafe(ref at, 40), o5);
                o6 = Fma.MultiplyAdd(weight, Vector256.LoadUnsafe(ref at, 48), o6);
                o7 = Fma.MultiplyAdd(weight, Vector256.LoadUnsafe(ref at, 56), o7);
                at = ref Unsafe.Add(ref at, EngineCall.Dim);
            }

            o0.StoreUnsafe(ref o, d);
            o1.StoreUnsafe(ref o, d + 8);
            o2.StoreUnsafe(ref o, d + 16);
            o3.StoreUnsafe(ref o, d + 24);
            o4.StoreUnsafe(ref o, d + 32);
            o5.StoreUnsafe(ref o, d + 40);
            o6.StoreUnsafe(ref o, d + 48);
            o7.StoreUnsafe(ref o, d + 56);
        }
    }
}
