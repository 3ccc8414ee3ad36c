using System.Numerics;
using System.Runtime.CompilerServices;

namespace FusedAttention.Samples.TextGeneration.Model;

/// <summary>
/// <c>Y = X W^T</c>, row-invariant: every element of Y is one chain of multiply-adds over vectors in the order of the inputs, then a sum over lanes, then the rest one by one, whatever
/// rows are computed beside it and however many threads there are.
/// </summary>
/// <remarks>
/// Four rows and two outputs are computed together: 8 independent chains keep two multiply-add units of latency 4 busy, and each loaded weight serves four rows. A single row takes
/// four outputs at a time; it is limited by reading the weights anyway. (<c>TensorPrimitives.Dot</c> would do but for one thing: it promises no order of its sums.)
/// </remarks>
internal static class MatrixProduct
{
    /// <summary>Outputs a thread takes at a time: 32 rows of 1024 weights are 128 KiB, which stay in the second-level cache while all rows of X pass by.</summary>
    private const int OutputsPerTask = 32;

    /// <summary>Below this many multiply-adds, other threads take longer to wake than one takes to compute.</summary>
    private const long MinParallelWork = 100_000;

    /// <param name="x">[rows, weights.Inputs].</param>
    /// <param name="weights">The matrix.</param>
    /// <param name="y">[rows, weights.Outputs].</param>
    /// <param name="rows">How many rows.</param>
    /// <param name="parallel">How many threads at most.</param>
    public static void Multiply(float[] x, Matrix weights, float[] y, int rows, ParallelOptions parallel)
    {
        int tasks = (weights.Outputs + OutputsPerTask - 1) / OutputsPerTask;
        if (parallel.MaxDegreeOfParallelism == 1 || (long)rows * weights.Inputs * weights.Outputs < MinParallelWork)
        {
            for (int task = 0; task < tasks; task++) MultiplyOutputs(x, weights, y, rows, task * OutputsPerTask);
        }
        else
        {
            Parallel.For(0, tasks, parallel, task => MultiplyOutputs(x, weights, y, rows, task * OutputsPerTask));
        }
    }

    /// <summary>The sum of squares, in the same order of operations.</summary>
    public static float SumOfSquares(ReadOnlySpan<float> x) => Dot(x, x);

    private static void MultiplyOutputs(float[] x, Matrix weights, float[] y, int rows, int firstOutput)
    {
        int inputs = weights.Inputs, outputs = weights.Outputs;
        int end = Math.Min(firstOutput + OutputsPerTask, outputs);
        int row = 0;
        for (; row + 4 <= rows; row += 4)
        {
            ReadOnlySpan<float> x4 = x.AsSpan(row * inputs, 4 * inputs);
            int output = firstOutput;
            for (; output + 2 <= end; output += 2) FourRows(x4, weights.Elements.AsSpan(output * inputs, 2 * inputs), y.AsSpan((row * outputs) + output), outputs);
            if (output == end) continue;
            for (int r = 0; r < 4; r++) y[((row + r) * outputs) + output] = Dot(x4.Slice(r * inputs, inputs), weights.Row(output));
        }

        for (; row < rows; row++)
        {
            ReadOnlySpan<float> x1 = x.AsSpan(row * inputs, inputs);
            int output = firstOutput;
            for (; output + 4 <= end; output += 4) FourOutputs(x1, weights.Elements.AsSpan(output * inputs, 4 * inputs), y.AsSpan((row * outputs) + output));
            for (; output < end; output++) y[(row * outputs) + output] = Dot(x1, weights.Row(output));
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void FourRows(ReadOnlySpan<float> x, ReadOnlySpan<float> w, Span<float> y, int stride)
    {
        int n = w.Length / 2;
        ReadOnlySpan<float> x0 = x[..n], x1 = x.Slice(n, n), x2 = x.Slice(2 * n, n), x3 = x.Slice(3 * n, n), w0 = w[..n], w1 = w.Slice(n, n);
        Vector<float> a0 = default, a1 = default, a2 = default, a3 = default, b0 = default, b1 = default, b2 = default, b3 = default;
        int i = 0;
        for (; i <= n - Vector<float>.Count; i += Vector<float>.Count)
        {
            Vector<float> v = Load(w0, i), u = Load(w1, i);
            Vector<float> r0 = Load(x0, i), r1 = Load(x1, i), r2 = Load(x2, i), r3 = Load(x3, i);
            a0 = Vector.MultiplyAddEstimate(r0, v, a0);
            b0 = Vector.MultiplyAddEstimate(r0, u, b0);
            a1 = Vector.MultiplyAddEstimate(r1, v, a1);
            b1 = Vector.MultiplyAddEstimate(r1, u, b1);
            a2 = Vector.MultiplyAddEstimate(r2, v, a2);
            b2 = Vector.MultiplyAddEstimate(r2, u, b2);
            a3 = Vector.MultiplyAddEstimate(r3, v, a3);
            b3 = Vector.MultiplyAddEstimate(r3, u, b3);
        }

        y[0] = Finish(a0, x0, w0, i);
        y[1] = Finish(b0, x0, w1, i);
        y[stride] = Finish(a1, x1, w0, i);
        y[stride + 1] = Finish(b1, x1, w1, i);
        y[2 * stride] = Finish(a2, x2, w0, i);
        y[(2 * stride) + 1] = Finish(b2, x2, w1, i);
        y[3 * stride] = Finish(a3, x3, w0, i);
        y[(3 * stride) + 1] = Finish(b3, x3, w1, i);
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void FourOutputs(ReadOnlySpan<float> x, ReadOnlySpan<float> w, Span<float> y)
    {
        int n = x.Length;
        ReadOnlySpan<float> w0 = w[..n], w1 = w.Slice(n, n), w2 = w.Slice(2 * n, n), w3 = w.Slice(3 * n, n);
        Vector<float> a0 = default, a1 = default, a2 = default, a3 = default;
        int i = 0;
        for (; i <= n - Vector<float>.Count; i += Vector<float>.Count)
        {
            Vector<float> r = Load(x, i);
            a0 = Vector.MultiplyAddEstimate(r, Load(w0, i), a0);
            a1 = Vector.MultiplyAddEstimate(r, Load(w1, i), a1);
            a2 = Vector.MultiplyAddEstimate(r, Load(w2, i), a2);
            a3 = Vector.MultiplyAddEstimate(r, Load(w3, i), a3);
        }

        y[0] = Finish(a0, x, w0, i);
        y[1] = Finish(a1, x, w1, i);
        y[2] = Finish(a2, x, w2, i);
        y[3] = Finish(a3, x, w3, i);
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static float Dot(ReadOnlySpan<float> x, ReadOnlySpan<float> w)
    {
        Vector<float> a = default;
        int i = 0;
        for (; i <= x.Length - Vector<float>.Count; i += Vector<float>.Count) a = Vector.MultiplyAddEstimate(Load(x, i), Load(w, i), a);
        return Finish(a, x, w, i);
    }

    /// <summary>The end of every chain: lanes from the first to the last, then what no vector covers.</summary>
    private static float Finish(Vector<float> lanes, ReadOnlySpan<float> x, ReadOnlySpan<float> w, int from)
    {
        float sum = lanes[0];
        for (int i = 1; i < Vector<float>.Count; i++) sum += lanes[i];
        for (int i = from; i < w.Length; i++) sum += x[i] * w[i];
        return sum;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector<float> Load(ReadOnlySpan<float> from, int index) => new(from.Slice(index, Vector<float>.Count));
}
