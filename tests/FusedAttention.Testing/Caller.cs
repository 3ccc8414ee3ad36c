using System.Numerics.Tensors;
using System.Runtime.CompilerServices;
using Xunit;

namespace FusedAttention.Testing;

/// <summary>Runs a <see cref="Problem"/> through the public API in a given <see cref="Arrangement"/>, with poison around all inputs and sentinels around all outputs.</summary>
internal static unsafe class Caller
{
    /// <param name="problem">The problem.</param>
    /// <param name="arrangement">How it lies in memory.</param>
    /// <param name="target">What to call instead of the public API; dense calls go to it as tensor spans.</param>
    /// <param name="cancellationToken">The call's.</param>
    public static CallResult Run(Problem problem, Arrangement? arrangement = null, ICallTarget? target = null, CancellationToken cancellationToken = default)
    {
        Arrangement a = arrangement ?? Arrangement.Plain;
        CheckSizes(problem);
        return (problem.QueryType, problem.KeyValueType) switch
        {
            (AttentionElementType.Float32, AttentionElementType.Float32) => Run<float, float>(problem, a, target, cancellationToken),
            (AttentionElementType.Float32, AttentionElementType.Float16) => Run<float, Half>(problem, a, target, cancellationToken),
            (AttentionElementType.Float32, AttentionElementType.BFloat16) => Run<float, BFloat16>(problem, a, target, cancellationToken),
            (AttentionElementType.Float16, AttentionElementType.Float16) => Run<Half, Half>(problem, a, target, cancellationToken),
            (AttentionElementType.BFloat16, AttentionElementType.BFloat16) => Run<BFloat16, BFloat16>(problem, a, target, cancellationToken),
            (AttentionElementType.Float32, AttentionElementType.Int8) => Run<float, sbyte>(problem, a, target, cancellationToken),
            (AttentionElementType.Float16, AttentionElementType.Int8) => Run<Half, sbyte>(problem, a, target, cancellationToken),
            (AttentionElementType.BFloat16, AttentionElementType.Int8) => Run<BFloat16, sbyte>(problem, a, target, cancellationToken),
            (AttentionElementType.Float32, AttentionElementType.Float8E4M3) => Run<float, Float8E4M3>(problem, a, target, cancellationToken),
            (AttentionElementType.Float16, AttentionElementType.Float8E4M3) => Run<Half, Float8E4M3>(problem, a, target, cancellationToken),
            (AttentionElementType.BFloat16, AttentionElementType.Float8E4M3) => Run<BFloat16, Float8E4M3>(problem, a, target, cancellationToken),
            (AttentionElementType.Float32, AttentionElementType.Q8Block) => Run<float, Q8Block>(problem, a, target, cancellationToken),
            (AttentionElementType.Float16, AttentionElementType.Q8Block) => Run<Half, Q8Block>(problem, a, target, cancellationToken),
            (AttentionElementType.BFloat16, AttentionElementType.Q8Block) => Run<BFloat16, Q8Block>(problem, a, target, cancellationToken),
            _ => throw new NotSupportedException($"{problem.QueryType} over {problem.KeyValueType}"),
        };
    }

    private static CallResult Run<TQuery, TKeyValue>(Problem p, Arrangement a, ICallTarget? target, CancellationToken cancellationToken)
        where TQuery : unmanaged
        where TKeyValue : unmanaged
    {
        bool isDense = p.Form == CallForm.Dense;
        int batch = isDense ? p.Sequences : 1;
        int rows = isDense ? p.QueryLengths.FirstOrDefault() : p.TotalQueries;
        using var query = Strided<TQuery>.Create(a.Query, batch, rows, p.Heads, p.KeyDim, a.Placement, TestMemory<TQuery>.Poison);
        using var output = Strided<TQuery>.Create(a.Output, batch, rows, p.Heads, p.ValueDim, a.Placement, TestMemory<TQuery>.Sentinel);
        using var logSumExp = a.WantsLogSumExp
            ? Strided<float>.CreateRows(1, batch, p.Heads, rows, a.RowGap, a.Placement, TestMemory<float>.Sentinel)
            : null;
        using Strided<bool>? mask = Place(p.Mask, a, value => value);
        for (int s = 0; s < p.Sequences; s++) WriteRows(query, p.Query[s], isDense ? s : 0, isDense ? 0 : p.FirstQuery(s), p.Heads, p.KeyDim);

        (int[] table, int entries, int blocks) = p.Form == CallForm.Paged ? BuildTable(p, a) : ([], 0, 0);
        (int keyBatch, int keyRows) = p.Form switch
        {
            CallForm.Dense => (p.Sequences, p.KeyCapacity),
            CallForm.Packed => (1, p.KeyLengths.Sum()),
            _ => (blocks, p.BlockSize),
        };
        using var key = Strided<TKeyValue>.Create(a.Key, keyBatch, keyRows, p.KeyValueHeads, p.KeyDim / Elements.Numbers(p.KeyValueType), a.Placement, TestMemory<TKeyValue>.Poison);
        using var value = Strided<TKeyValue>.Create(a.Value, keyBatch, keyRows, p.KeyValueHeads, p.ValueDim / Elements.Numbers(p.KeyValueType), a.Placement, TestMemory<TKeyValue>.Poison);
        using Strided<float>? keyScale = PlaceScales(p.KeyScalePattern, keyBatch, keyRows, p.KeyValueHeads, a), valueScale = PlaceScales(p.ValueScalePattern, keyBatch, keyRows, p.KeyValueHeads, a);
        WriteKeys(p, a, table, entries, key, value, keyScale, valueScale);
        AttentionOperands scales = default;
        int scaleRank = p.Form == CallForm.Paged ? 3 : Rank(p, a) - 1;
        if (keyScale is not null) scales.KeyScale = keyScale.AsReadOnlyTensorSpan(scaleRank);
        if (valueScale is not null) scales.ValueScale = valueScale.AsReadOnlyTensorSpan(scaleRank);

        switch (p.Bias is null ? AttentionElementType.Float32 : p.BiasType)
        {
            case AttentionElementType.Float16:
            {
                using Strided<Half>? bias = Place(p.Bias, a, v => (Half)v);
                Call(p, a, query, key, value, output, logSumExp, mask, bias is null ? default : bias.AsReadOnlyTensorSpan(BiasRank(p, a)), table, entries, scales, target, cancellationToken);
                break;
            }

            case AttentionElementType.BFloat16:
            {
                using Strided<BFloat16>? bias = Place(p.Bias, a, v => (BFloat16)v);
                Call(p, a, query, key, value, output, logSumExp, mask, bias is null ? default : bias.AsReadOnlyTensorSpan(BiasRank(p, a)), table, entries, scales, target, cancellationToken);
                break;
            }

            default:
            {
                using Strided<float>? bias = Place(p.Bias, a, v => v);
                Call(p, a, query, key, value, output, logSumExp, mask, bias is null ? default : bias.AsReadOnlyTensorSpan(BiasRank(p, a)), table, entries, scales, target, cancellationToken);
                break;
            }
        }

        output.AssertOnlyElementsWritten($"output of {p}");
        logSumExp?.AssertOnlyElementsWritten($"log-sum-exp of {p}");
        return Read(p, output, logSumExp);
    }

    private static void Call<TQuery, TKeyValue>(
        Problem p, Arrangement a, Strided<TQuery> query, Strided<TKeyValue> key, Strided<TKeyValue> value, Strided<TQuery> output,
        Strided<float>? logSumExp, Strided<bool>? mask, AttentionBias bias, int[] table, int entries, scoped in AttentionOperands scales, ICallTarget? target, CancellationToken cancellationToken)
        where TQuery : unmanaged
        where TKeyValue : unmanaged
    {
        int rank = Rank(p, a);
        var operands = new AttentionOperands { QueryOffsets = p.QueryOffsets, Bias = bias, KeyScale = scales.KeyScale, ValueScale = scales.ValueScale };
        if (mask is not null) operands.BooleanMask = mask.AsReadOnlyTensorSpan(Math.Min(p.Mask!.Rank, rank));
        if (logSumExp is not null) operands.LogSumExp = logSumExp.AsTensorSpan(rank - 1);
        if (p.Form == CallForm.Dense && p.PassesKeyLengths) operands.KeyLengths = p.KeyLengths;

        if (target is not null)
        {
            Call(target, p, query, key, value, output, table, entries, operands, rank);
        }
        else if (p.Form == CallForm.Packed)
        {
            int[] cumulativeQueries = Cumulative(p.QueryLengths);
            int[] cumulativeKeys = Cumulative(p.KeyLengths);
            Attention.ForwardVariableLength(
                query.AsReadOnlyTensorSpan(3), key.AsReadOnlyTensorSpan(3), value.AsReadOnlyTensorSpan(3), output.AsTensorSpan(3),
                cumulativeQueries, cumulativeKeys, p.Options, operands, p.Execution, cancellationToken);
        }
        else if (p.Form == CallForm.Paged)
        {
            var sequences = new PagedSequences(Cumulative(p.QueryLengths), p.KeyLengths, table, entries);
            Attention.ForwardPaged(
                query.AsReadOnlyTensorSpan(3), key.AsReadOnlyTensorSpan(), value.AsReadOnlyTensorSpan(), output.AsTensorSpan(3), sequences, p.Options, operands, p.Execution, cancellationToken);
        }
        else if (a.Surface == Surface.Tensor)
        {
            Tensor<TQuery> result = Dense<TQuery>(output, rank);
            Attention.Forward(Dense(query, rank), Dense(key, rank), Dense(value, rank), result, p.Options, operands, p.Execution, cancellationToken);
            result.AsReadOnlyTensorSpan().CopyTo(output.AsTensorSpan(rank));
        }
        else if (a.Surface == Surface.TensorSpan)
        {
            Attention.Forward(
                query.AsReadOnlyTensorSpan(rank), key.AsReadOnlyTensorSpan(rank), value.AsReadOnlyTensorSpan(rank), output.AsTensorSpan(rank), p.Options, operands, p.Execution, cancellationToken);
        }
        else
        {
            var shape = new AttentionShape(p.Sequences, p.QueryLengths.FirstOrDefault(), p.KeyCapacity, p.Heads, p.KeyValueHeads, p.KeyDim, p.ValueDim)
            {
                QueryStrides = query.AttentionStrides,
                KeyStrides = key.AttentionStrides,
                ValueStrides = value.AttentionStrides,
                OutputStrides = output.AttentionStrides,
            };
            if (a.Surface == Surface.Span) Attention.Forward<TQuery, TKeyValue>(query.Span, key.Span, value.Span, output.Span, shape, p.Options, operands, p.Execution, cancellationToken);
            else Attention.Forward(query.Pointer, key.Pointer, value.Pointer, output.Pointer, shape, p.Options, operands, p.Execution, cancellationToken);
        }
    }

    private static void Call<TQuery, TKeyValue>(
        ICallTarget target, Problem p, Strided<TQuery> query, Strided<TKeyValue> key, Strided<TKeyValue> value, Strided<TQuery> output,
        int[] table, int entries, scoped in AttentionOperands operands, int rank)
        where TQuery : unmanaged
        where TKeyValue : unmanaged
    {
        switch (p.Form)
        {
            case CallForm.Packed:
                target.Packed(
                    query.AsReadOnlyTensorSpan(3), key.AsReadOnlyTensorSpan(3), value.AsReadOnlyTensorSpan(3), output.AsTensorSpan(3),
                    Cumulative(p.QueryLengths), Cumulative(p.KeyLengths), p.Options, operands);
                break;
            case CallForm.Paged:
                target.Paged(
                    query.AsReadOnlyTensorSpan(3), key.AsReadOnlyTensorSpan(), value.AsReadOnlyTensorSpan(), output.AsTensorSpan(3),
                    Cumulative(p.QueryLengths), p.KeyLengths, table, entries, p.Options, operands);
                break;
            default:
                target.Dense(
                    query.AsReadOnlyTensorSpan(rank), key.AsReadOnlyTensorSpan(rank), value.AsReadOnlyTensorSpan(rank), output.AsTensorSpan(rank), p.Options, operands);
                break;
        }
    }

    private static int Rank(Problem p, Arrangement a) => p.Form == CallForm.Dense && !(a.WithoutBatchDimension && p.Sequences == 1 && a.Surface <= Surface.Tensor) ? 4 : 3;

    private static int BiasRank(Problem p, Arrangement a) => Math.Min(p.Bias!.Rank, Rank(p, a));

    public static int[] Cumulative(int[] lengths)
    {
        var cumulative = new int[lengths.Length + 1];
        for (int i = 0; i < lengths.Length; i++) cumulative[i + 1] = cumulative[i] + lengths[i];
        return cumulative;
    }

    private static Tensor<T> Dense<T>(Strided<T> source, int rank)
        where T : unmanaged
    {
        Tensor<T> tensor = Tensor.CreateFromShape<T>(source.AsReadOnlyTensorSpan(rank).Lengths);
        source.AsReadOnlyTensorSpan(rank).CopyTo(tensor);
        return tensor;
    }

    private static Strided<T>? Place<TSource, T>(Broadcast<TSource>? source, Arrangement a, Func<TSource, T> convert)
        where T : unmanaged
    {
        if (source is null) return null;
        var placed = Strided<T>.CreateRows(source.Batch, source.Heads, source.Queries, source.Keys, a.RowGap, a.Placement, TestMemory<T>.Poison);
        for (int b = 0; b < source.Batch; b++)
        for (int h = 0; h < source.Heads; h++)
        for (int q = 0; q < source.Queries; q++)
        for (int k = 0; k < source.Keys; k++) placed[b, h, q, k] = convert(source.At(b, h, q, k));
        return placed;
    }

    /// <summary>The buffers have no bounds checks of their own: a test that mixes its sizes up must not write through them.</summary>
    private static void CheckSizes(Problem p)
    {
        for (int s = 0; s < p.Sequences; s++)
        {
            Assert.Equal(p.QueryLengths[s] * p.Heads * p.KeyDim, p.Query[s].Length);
            Assert.Equal(p.KeyLengths[s] * p.KeyValueHeads * p.KeyDim, p.Key[s].Length);
            Assert.Equal(p.KeyLengths[s] * p.KeyValueHeads * p.ValueDim, p.Value[s].Length);
            if (p.Form != CallForm.Dense) continue;
            Assert.Equal(p.QueryLengths[0], p.QueryLengths[s]);
            Assert.InRange(p.KeyLengths[s], 0, p.KeyCapacity);
            if (!p.PassesKeyLengths) Assert.Equal(p.KeyCapacity, p.KeyLengths[s]);
        }
    }

    private static void WriteRows<T>(Strided<T> target, float[] source, int batch, int firstToken, int heads, int dim)
        where T : unmanaged
    {
        for (int n = 0; n < source.Length; n++)
        {
            target[batch, firstToken + (n / dim / heads), n / dim % heads, n % dim] = Elements.From<T>(source[n]);
        }
    }

    /// <summary>Room for scales: lengths of 1 where they do not vary.</summary>
    private static Strided<float>? PlaceScales(ScalePattern pattern, int batch, int tokens, int heads, Arrangement a)
    {
        (int b, int t, int h) = pattern switch
        {
            ScalePattern.One => (1, 1, 1),
            ScalePattern.PerHead => (1, 1, heads),
            ScalePattern.PerToken => (batch, tokens, 1),
            ScalePattern.PerSequenceAndHead => (batch, 1, heads),
            _ => (batch, tokens, heads),
        };
        return pattern == ScalePattern.None ? null : Strided<float>.CreateRows(1, b, t, h, a.RowGap, a.Placement, TestMemory<float>.Poison);
    }

    private static void WriteScales(Strided<float>? placed, float[][]? scales, ScalePattern pattern, int sequence, int token, int kvHead, int kvHeads, int batch, int row)
    {
        if (placed is null) return;
        bool byToken = pattern is ScalePattern.PerToken or ScalePattern.PerTokenAndHead;
        placed[0, byToken || pattern == ScalePattern.PerSequenceAndHead ? batch : 0, byToken ? row : 0, pattern is ScalePattern.One or ScalePattern.PerToken ? 0 : kvHead] = scales![sequence][(token * kvHeads) + kvHead];
    }

    /// <summary>The rows of a token: numbers, or blocks of them with their scales.</summary>
    private static void WriteRow<T>(Strided<T> target, long batch, long row, int head, ReadOnlySpan<float> numbers, float[]? scales, int scaleIndex)
        where T : unmanaged
    {
        if (typeof(T) != typeof(Q8Block))
        {
            for (int d = 0; d < numbers.Length; d++) target[batch, row, head, d] = Elements.From<T>(numbers[d]);
            return;
        }

        for (int n = 0; n < numbers.Length / Q8Block.Length; n++)
        {
            var block = new Q8Block { Scale = (Half)scales![scaleIndex + n] };
            for (int i = 0; i < Q8Block.Length; i++) block.Codes[i] = (sbyte)numbers[(n * Q8Block.Length) + i];
            target[batch, row, head, n] = Unsafe.BitCast<Q8Block, T>(block);
        }
    }

    private static void WriteKeys<T>(Problem p, Arrangement a, int[] table, int entries, Strided<T> key, Strided<T> value, Strided<float>? keyScale, Strided<float>? valueScale)
        where T : unmanaged
    {
        int firstKey = 0;
        for (int s = 0; s < p.Sequences; s++)
        {
            (int from, int to) = a.PoisonsUnseenKeys ? p.KeyRange(s) : (0, p.KeyLengths[s]);
            for (int j = from; j < to; j++)
            {
                (int b, int t) = p.Form switch
                {
                    CallForm.Dense => (s, j),
                    CallForm.Packed => (0, firstKey + j),
                    _ => (table[(s * entries) + (j / p.BlockSize)], j % p.BlockSize),
                };
                for (int g = 0; g < p.KeyValueHeads; g++)
                {
                    int token = (j * p.KeyValueHeads) + g;
                    WriteRow(key, b, t, g, p.Key[s].AsSpan(token * p.KeyDim, p.KeyDim), p.KeyScales?[s], token * (p.KeyDim / Elements.Numbers(p.KeyValueType)));
                    WriteRow(value, b, t, g, p.Value[s].AsSpan(token * p.ValueDim, p.ValueDim), p.ValueScales?[s], token * (p.ValueDim / Elements.Numbers(p.KeyValueType)));
                    WriteScales(keyScale, p.KeyScales, p.KeyScalePattern, s, j, g, p.KeyValueHeads, b, t);
                    WriteScales(valueScale, p.ValueScales, p.ValueScalePattern, s, j, g, p.KeyValueHeads, b, t);
                }
            }

            firstKey += p.KeyLengths[s];
        }
    }

    private static (int[] Table, int Entries, int Blocks) BuildTable(Problem p, Arrangement a)
    {
        int[] needed = [.. p.KeyLengths.Select(keys => (keys + p.BlockSize - 1) / p.BlockSize)];
        int entries = needed.DefaultIfEmpty(0).Max() + a.SpareEntries;
        int blocks = Math.Max(1, needed.Sum() + a.SpareBlocks);
        int[] order = [.. Enumerable.Range(0, blocks)];
        new Random(a.BlockSeed).Shuffle(order);
        var table = new int[p.Sequences * entries];
        Array.Fill(table, a.PadEntry);
        int next = 0;
        for (int s = 0; s < p.Sequences; s++)
        {
            // Blocks that a window has passed may be gone: their entries hold no block either.
            (int from, int to) = a.PoisonsUnseenKeys ? p.KeyRange(s) : (0, p.KeyLengths[s]);
            for (int n = from / p.BlockSize; n * p.BlockSize < to; n++) table[(s * entries) + n] = order[next++];
        }

        return (table, entries, blocks);
    }

    private static CallResult Read<T>(Problem p, Strided<T> output, Strided<float>? logSumExp)
        where T : unmanaged
    {
        var outputs = new float[p.Sequences][];
        float[][]? lses = logSumExp is null ? null : new float[p.Sequences][];
        for (int s = 0; s < p.Sequences; s++)
        {
            int batch = p.Form == CallForm.Dense ? s : 0;
            int first = p.Form == CallForm.Dense ? 0 : p.FirstQuery(s);
            int queries = p.QueryLengths[s];
            outputs[s] = new float[queries * p.Heads * p.ValueDim];
            for (int n = 0; n < outputs[s].Length; n++)
            {
                outputs[s][n] = Elements.ToSingle(output[batch, first + (n / p.ValueDim / p.Heads), n / p.ValueDim % p.Heads, n % p.ValueDim]);
            }

            if (lses is null) continue;
            lses[s] = new float[p.Heads * queries];
            for (int n = 0; n < lses[s].Length; n++) lses[s][n] = logSumExp![0, batch, n / queries, first + (n % queries)];
        }

        return new(outputs, lses);
    }
}
