using System.Numerics.Tensors;
using Xunit;

namespace FusedAttention.Tests;

/// <summary>Random scores and values of a context cut into parts, some without any key; attention over each part and over the whole in double precision.</summary>
internal sealed class SplitContext
{
    private const float Canary = -12345;

    private readonly int _parts;
    private readonly int _batch;
    private readonly int _queries;
    private readonly int _heads;
    private readonly int _dim;
    private readonly float[] _sinks;
    private readonly double[] _partOutputs;     // [parts, batch, queries, heads, dim]
    private readonly double[] _partLses;        // [parts, batch, queries, heads]
    private readonly double[] _outputs;         // [batch, queries, heads, dim]
    private readonly double[] _lses;            // [batch, queries, heads]

    public SplitContext(int parts, int batch, int queries, int heads, int dim, bool withSink, int seed)
    {
        (_parts, _batch, _queries, _heads, _dim) = (parts, batch, queries, heads, dim);
        var random = new Random(seed);
        int rows = batch * queries * heads;
        _sinks = withSink ? Enumerable.Range(0, heads).Select(_ => (float)(random.NextDouble() * 6)).ToArray() : [];
        _partOutputs = new double[parts * rows * dim];
        _partLses = new double[parts * rows];
        _outputs = new double[rows * dim];
        _lses = new double[rows];
        for (int row = 0; row < rows; row++)
        {
            var scores = new List<double>();
            var values = new List<double[]>();
            double sink = withSink ? _sinks[row % heads] : double.NegativeInfinity;
            for (int part = 0; part < parts; part++)
            {
                int keys = random.Next(4), start = scores.Count;
                for (int key = 0; key < keys; key++)
                {
                    scores.Add((random.NextDouble() * 20) - 10);
                    values.Add(Enumerable.Range(0, dim).Select(_ => (random.NextDouble() * 2) - 1).ToArray());
                }

                _partLses[(part * rows) + row] = Softmax(scores[start..], values[start..], double.NegativeInfinity, _partOutputs.AsSpan(((part * rows) + row) * dim, dim));
            }

            _lses[row] = Softmax(scores, values, sink, _outputs.AsSpan(row * dim, dim));
        }
    }

    /// <summary>Merges all parts with the given element types and layouts; compares with attention over the whole.</summary>
    public void MergeAndCompare<TPartial, TOutput>(double tolerance, bool packed, bool withBatch)
        where TPartial : unmanaged
        where TOutput : unmanaged
    {
        // Packed in the order of the dimensions, or heads outside of queries with padded rows for outputs, and parts innermost for log-sum-exps.
        int pad = packed ? 0 : 3;
        nint row = _dim + pad;
        nint[] outputLengths = [_parts, _batch, _queries, _heads, _dim], lseLengths = [_parts, _batch, _heads, _queries];
        nint[] outputStrides = packed
            ? [_batch * _queries * _heads * row, _queries * _heads * row, _heads * row, row, 1]
            : [_batch * _queries * _heads * row, _queries * _heads * row, row, _queries * row, 1];
        nint[] lseStrides = packed
            ? [_batch * _heads * _queries, _heads * _queries, _queries, 1]
            : [1, _parts * _queries * _heads, _parts, _heads * _parts];
        nint[] resultLseStrides = packed ? lseStrides[1..] : [_queries * _heads, 1, _heads];

        var partials = Filled<TPartial>(outputLengths, outputStrides);
        var partialLses = Filled<float>(lseLengths, lseStrides);
        var output = Filled<TOutput>(outputLengths[1..], outputStrides[1..]);
        var lse = Filled<float>(lseLengths[1..], resultLseStrides);
        ForEachRow((b, q, h, r) =>
        {
            for (int part = 0; part < _parts; part++)
            {
                int from = (part * _batch * _queries * _heads) + r;
                double partLse = _partLses[from];
                partialLses[Offset(lseStrides, part, b, h, q)] = (float)partLse;
                for (int i = 0; i < _dim; i++)
                    partials[Offset(outputStrides, part, b, q, h, i)] = To<TPartial>(double.IsNegativeInfinity(partLse) ? double.NaN : _partOutputs[(from * _dim) + i]);
            }
        });

        int skip = withBatch ? 0 : 1;
        Attention.Merge(
            new ReadOnlyTensorSpan<TPartial>(partials, Drop(outputLengths, skip, 1), Unit(Drop(outputLengths, skip, 1), Drop(outputStrides, skip, 1))),
            new ReadOnlyTensorSpan<float>(partialLses, Drop(lseLengths, skip, 1), Unit(Drop(lseLengths, skip, 1), Drop(lseStrides, skip, 1))),
            new TensorSpan<TOutput>(output, outputLengths.AsSpan(1 + skip), Unit(outputLengths[(1 + skip)..], outputStrides[(1 + skip)..])),
            new TensorSpan<float>(lse, lseLengths.AsSpan(1 + skip), Unit(lseLengths[(1 + skip)..], resultLseStrides[skip..])),
            _sinks);

        int written = 0;
        ForEachRow((b, q, h, r) =>
        {
            AssertClose(_lses[r], lse[Offset(resultLseStrides, b, h, q)], 2e-6 * Math.Max(1, Math.Abs(_lses[r])));
            for (int i = 0; i < _dim; i++, written++)
                AssertClose(_outputs[(r * _dim) + i], From(output[Offset(outputStrides[1..], b, q, h, i)]), tolerance);
        });
        Assert.Equal(output.Length - written, output.Count(static x => From(x) == From(To<TOutput>(Canary))));
    }

    /// <summary>Packed result of merging some of the parts, without sinks: outputs [queries, heads, dim], log-sum-exps [heads, queries]; batch 1.</summary>
    public (float[] Output, float[] LogSumExp) MergeParts(int from, int to)
    {
        int rows = _queries * _heads;
        float[] partials = _partOutputs[(from * rows * _dim)..(to * rows * _dim)].Select(static x => (float)x).ToArray();
        var lses = new float[(to - from) * rows];
        for (int part = from; part < to; part++)
            ForEachRow((_, q, h, r) => lses[((part - from) * rows) + (h * _queries) + q] = (float)_partLses[(part * rows) + r]);
        var output = new float[rows * _dim];
        var lse = new float[rows];
        Attention.Merge(
            new ReadOnlyTensorSpan<float>(partials, [to - from, _queries, _heads, _dim]),
            new ReadOnlyTensorSpan<float>(lses, [to - from, _heads, _queries]),
            new TensorSpan<float>(output, [_queries, _heads, _dim]),
            new TensorSpan<float>(lse, [_heads, _queries]));
        return (output, lse);
    }

    private static double Softmax(List<double> scores, List<double[]> values, double sink, Span<double> output)
    {
        double sum = scores.Sum(Math.Exp) + Math.Exp(sink);
        for (int key = 0; key < scores.Count; key++)
            for (int i = 0; i < output.Length; i++) output[i] += Math.Exp(scores[key]) / sum * values[key][i];
        return Math.Log(sum);
    }

    private static T[] Filled<T>(nint[] lengths, nint[] strides)
        where T : unmanaged
    {
        nint extent = 1;
        for (int i = 0; i < lengths.Length; i++) extent += (lengths[i] - 1) * strides[i];
        var array = new T[extent];
        array.AsSpan().Fill(To<T>(Canary));
        return array;
    }

    private static nint[] Drop(nint[] values, int count, int at) => [.. values[..at], .. values[(at + count)..]];

    private static nint[] Unit(nint[] lengths, nint[] strides) => lengths.Zip(strides, static (length, stride) => length == 1 ? 0 : stride).ToArray();

    private static nint Offset(nint[] strides, params ReadOnlySpan<int> indices)
    {
        nint offset = 0;
        for (int i = 0; i < indices.Length; i++) offset += indices[i] * strides[i];
        return offset;
    }

    private static T To<T>(double value) => (T)(typeof(T) == typeof(float) ? (float)value : typeof(T) == typeof(Half) ? (object)(Half)value : (BFloat16)(float)value);

    private static double From<T>(T value) => value switch { float f => f, Half h => (double)h, BFloat16 b => b, _ => throw new NotSupportedException() };

    private static void AssertClose(double expected, double actual, double tolerance)
    {
        if (expected == actual || Math.Abs(expected - actual) <= tolerance) return;
        Assert.Fail($"{actual}, expected {expected} within {tolerance}");
    }

    private void ForEachRow(Action<int, int, int, int> action)
    {
        for (int b = 0; b < _batch; b++)
            for (int q = 0; q < _queries; q++)
                for (int h = 0; h < _heads; h++) action(b, q, h, (((b * _queries) + q) * _heads) + h);
    }
}
