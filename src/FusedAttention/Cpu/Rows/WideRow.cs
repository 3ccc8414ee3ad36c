using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using FusedAttention.Cpu.Numerics;
using FusedAttention.Problems;
using FusedAttention.Tensors;

namespace FusedAttention.Cpu.Rows;

/// <summary>
/// One row in double precision, key by key in the order of the law: for rows whose numbers leave <see cref="FloatRange"/>, overflow on the way to a finite result, or are NaN or infinite
/// by right. It looks at the keys that the row sees and at no other, so it depends on nothing that lies hidden.
/// </summary>
/// <remarks>Some 10 to 30 times slower than the kernels; a row whose scores are NaN ends at the first of them.</remarks>
internal static unsafe partial class WideRow<TS, TV>
    where TS : struct, ISimd<TV>
    where TV : unmanaged
{
    private const int KeysAtOnce = 64;

    /// <summary>Computes and writes the output row and its log-sum-exp.</summary>
    public static void Write(AttentionProblem problem, in SequenceProblem sequence, int query, int head) => Write(problem, sequence, query, head, null, 0);

    /// <summary>
    /// Computes a row again whose sum is a number and whose output is not, or not in all columns: those that are finite stay as they are, so that an infinite value does not show in the bits of its neighbours.
    /// </summary>
    /// <param name="problem">The call.</param>
    /// <param name="sequence">The row's sequence.</param>
    /// <param name="query">The row's query within the sequence.</param>
    /// <param name="head">The row's query head.</param>
    /// <param name="sums">The row's sum of weighted values.</param>
    /// <param name="factor">What makes the output of it.</param>
    [SkipLocalsInit]
    public static void Write(AttentionProblem problem, in SequenceProblem sequence, int query, int head, float* sums, float factor)
    {
        int dims = problem.KeyDim + Math.Max(problem.KeyDim, problem.ValueDim);
        float* floats = (float*)NativeMemory.Alloc((nuint)((dims * (long)sizeof(float)) + (problem.ValueDim * (long)sizeof(double))) + sizeof(double));
        try
        {
            double* output = (double*)floats;
            float* queryRow = (float*)(output + problem.ValueDim);
            float* keyRow = queryRow + problem.KeyDim;
            RowConversion<TS, TV>.Widen(problem.QueryType, problem.QueryOf(sequence, query, head), queryRow, problem.KeyDim);
            Sum(problem, sequence, query, head, queryRow, keyRow, output, out double max, out double sum);
            Finish(problem, sequence, query, head, max, sum, output, keyRow, sums, factor);
        }
        finally
        {
            NativeMemory.Free(floats);
        }
    }

    [SkipLocalsInit]
    private static void Sum(
        AttentionProblem problem, in SequenceProblem sequence, int query, int head, float* queryRow, float* row, double* output, out double max, out double sum)
    {
        nint* keys = stackalloc nint[KeysAtOnce];
        nint* values = stackalloc nint[KeysAtOnce];
        int size = problem.KeyValueType.Size();
        nint keyOffset = (nint)(head / problem.Group * problem.KeyHeadStride * size);
        nint valueOffset = (nint)(head / problem.Group * problem.ValueHeadStride * size);
        var visibility = new RowVisibility(problem, sequence, query, head);
        var score = new WideScore(problem, sequence, query, head);
        int keyValueHead = head / problem.Group;
        KeyRange range = problem.RangeOf(sequence, query);
        max = double.NegativeInfinity;
        sum = 0;
        new Span<double>(output, problem.ValueDim).Clear();
        for (long first = range.Start; first < range.End; first += KeysAtOnce)
        {
            int count = (int)Math.Min(KeysAtOnce, range.End - first);
            KeyRows.Locate(problem, sequence, (int)first, (int)(first + count), keys, values);
            for (int j = 0; j < count; j++)
            {
                if (!visibility.Sees(first + j)) continue;
                RowConversion<TS, TV>.Widen(problem.KeyValueType, (byte*)(keys[j] + keyOffset), row, problem.KeyDim);
                double s = score.Of(Dot(queryRow, row, problem.KeyDim) * ScaleOf(problem, sequence, problem.KeyScale, sequence.KeyScaleStart, keyValueHead, (int)(first + j)), first + j);
                if (double.IsNaN(s))
                {
                    max = sum = double.NaN;
                    return;
                }

                if (double.IsNegativeInfinity(s) && (double.IsNegativeInfinity(max) || problem.ScoreFunction is not null)) continue;
                if (s > max)
                {
                    double rescale = Math.Exp(max - s);
                    sum *= rescale;
                    if (rescale != 1) Multiply(output, problem.ValueDim, rescale);
                    max = s;
                }

                double weight = Math.Exp(s - max);
                sum += weight;
                RowConversion<TS, TV>.Widen(problem.KeyValueType, (byte*)(values[j] + valueOffset), row, problem.ValueDim);
                double scaled = weight * ScaleOf(problem, sequence, problem.ValueScale, sequence.ValueScaleStart, keyValueHead, (int)(first + j));
                for (int d = 0; d < problem.ValueDim; d++) output[d] += scaled * row[d];
            }
        }
    }

    /// <summary>Sink, division and rounding.</summary>
    private static void Finish(AttentionProblem problem, in SequenceProblem sequence, int query, int head, double max, double sum, double* output, float* row, float* sums, float factor)
    {
        double sink = problem.SinkLogits.IsEmpty ? double.NegativeInfinity : problem.SinkLogits.Span[head];
        double top = sum == 0 ? sink : Math.Max(max, sink);
        double part = sum == 0 ? 0 : Math.Exp(max - top);
        double total = double.IsNegativeInfinity(top) ? 0 : (sum * part) + Math.Exp(sink - top);
        for (int d = 0; d < problem.ValueDim; d++) row[d] = sum == 0 ? 0 : (float)(output[d] * part / total);
        if (double.IsNaN(sum)) new Span<float>(row, problem.ValueDim).Fill(float.NaN);
        for (int d = 0; sums != null && d < problem.ValueDim; d++)
        {
            if (float.IsFinite(sums[d] * factor)) row[d] = sums[d] * factor;
        }

        RowConversion<TS, TV>.ScaleAndNarrow(problem.QueryType, row, 1, problem.OutputOf(sequence, query, head), problem.ValueDim);
        float* logSumExp = problem.LogSumExpOf(sequence, query, head);
        if (logSumExp == null) return;

        // A score of positive infinity has the weight exp(inf - inf), NaN, and the log-sum-exp infinity.
        if (double.IsNaN(sum)) *logSumExp = double.IsPositiveInfinity(max) ? float.PositiveInfinity : float.NaN;
        else *logSumExp = (float)(total == 0 ? double.NegativeInfinity : top + Math.Log(total));
    }

    /// <summary>The scale of a key or value; 1 where there are none.</summary>
    private static float ScaleOf(AttentionProblem problem, in SequenceProblem sequence, in ScaleTensor tensor, long first, int head, int key)
    {
        if (tensor.IsAbsent) return 1;
        float scale;
        ScaleRows<TS, TV>.Gather(problem, sequence, tensor, first, head, 1, key, key + 1, float.PositiveInfinity, &scale, 0);
        return scale;
    }

    private static double Dot(float* a, float* b, int length)
    {
        double sum0 = 0, sum1 = 0;
        int d = 0;
        for (; d + 1 < length; d += 2)
        {
            sum0 += (double)a[d] * b[d];
            sum1 += (double)a[d + 1] * b[d + 1];
        }

        return d < length ? sum0 + sum1 + ((double)a[d] * b[d]) : sum0 + sum1;
    }

    private static void Multiply(double* row, int length, double factor)
    {
        for (int d = 0; d < length; d++) row[d] *= factor;
    }

    /// <summary>The steps of the law on one number; keys that a mask, mask function or bias excludes never come here.</summary>
    private struct WideScore : IScoreSteps
    {
        private readonly ScoreSteps _steps;
        private readonly double _scale;
        private readonly double _softCap;
        private readonly double _slope;
        private readonly long _position;
        private readonly byte* _bias;
        private readonly AttentionElementType _biasType;
        private readonly ScoreFunction? _function;
        private readonly FunctionRow _place;
        private double _score;
        private long _key;

        public WideScore(AttentionProblem problem, in SequenceProblem sequence, int query, int head)
        {
            _steps = problem.Steps;
            _scale = problem.Scale;
            _softCap = problem.SoftCap;
            _slope = problem.AlibiSlopes.IsEmpty ? 0 : problem.AlibiSlopes.Span[head];
            _position = sequence.QueryOffset + query;
            _bias = problem.BiasOf(sequence, query, head);
            _biasType = problem.BiasType;
            _function = problem.ScoreFunction;
            _place = AttentionProblem.FunctionRowOf(sequence, query, head);
        }

        public double Of(double product, long key)
        {
            _score = product;
            _key = key;
            ScoreLaw.Apply(ref this, _steps);
            return _score;
        }

        public void Scale() => _score *= _scale;

        public void SoftCap() => _score = _softCap * Math.Tanh(_score / _softCap);

        public void Bias()
        {
            double bias = _biasType switch
            {
                AttentionElementType.Float32 => Float32Element.LoadOne(_bias, (nint)_key),
                AttentionElementType.Float16 => Float16Element.LoadOne(_bias, (nint)_key),
                AttentionElementType.BFloat16 => BFloat16Element.LoadOne(_bias, (nint)_key),
                _ => throw ElementTypes.Unknown(_biasType),
            };
            _score = double.IsNegativeInfinity(bias) ? bias : _score + bias;
        }

        public void Alibi() => _score -= _slope * Math.Abs((double)(_position - _key));

        public void Function() => _score = _function!.Evaluate(_score, _place.Batch, _place.Head, _place.Query, _place.Position, (int)_key);

        public readonly void Mask()
        {
        }

        public readonly void MaskFunction()
        {
        }
    }
}
