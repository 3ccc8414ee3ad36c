using FusedAttention.Cuda.Ptx;
using Fields = FusedAttention.Cuda.Kernels.BlockFields<FusedAttention.Cuda.Kernels.MergeBlock>;

namespace FusedAttention.Cuda.Kernels;

/// <summary>
/// Combines attention over parts of a context by the parts' log-sum-exps, <c>o = sum_i exp(lse_i - lse) o_i</c> with <c>lse = log(sum_i exp(lse_i))</c>, the sink counted as one more part without a value.
/// A warp takes a row, parts in their order.
/// </summary>
/// <remarks>
/// A part whose log-sum-exp is negative infinity saw nothing, and its output is not looked at. A log-sum-exp of NaN or infinity makes its row NaN. An infinite or undefined element stays so whatever its
/// part's weight, which may be too small for a float.
/// </remarks>
internal static class MergeKernel
{
    public const int Threads = 128;
    private const float Log2E = 1.44269504088896340736f;
    private const float Ln2 = 0.693147180559945309417f;

    /// <param name="partial">Elements of the parts.</param>
    /// <param name="output">Elements of the result.</param>
    public static PtxKernel Write(ElementFormat partial, ElementFormat output)
    {
        var k = new PtxKernel("merge", PtxTarget.Sm80, Threads, 1, CallBlock.MostParameterBytes);
        I32 thread = k.ThreadIndex(), lane = (thread & 31).As("lane");
        I64 row = (I64.Product(k.BlockX(), Threads / 32) + (thread >>> 5).Widen()).As("row");
        k.ExitIf(row >= I64Of(k, ref Fields.Block.Merge.Rows));

        // Rows are (batch, query, head), row-major.
        I64 heads = I64Of(k, ref Fields.Block.Merge.Heads), queries = I64Of(k, ref Fields.Block.Merge.Queries);
        I64 position = Quotient(row, heads), head = (row - (position * heads)).As("head");
        I64 batch = Quotient(position, queries).As("batch"), query = (position - (batch * queries)).As("query");
        I32 parts = I64Of(k, ref Fields.Block.Merge.Parts).ToI32().As("parts");
        I64 firstPartial = Along(ref Fields.Block.Merge.PartialBatchStride, ref Fields.Block.Merge.PartialQueryStride, ref Fields.Block.Merge.PartialHeadStride);
        Global lses = Pointer(ref Fields.Block.PartialLogSumExps)
            + (Along(ref Fields.Block.Merge.PartialLogSumExpBatchStride, ref Fields.Block.Merge.PartialLogSumExpQueryStride, ref Fields.Block.Merge.PartialLogSumExpHeadStride) << 2);
        F32 LogSumExpOf(I32 part) => k.Load<F32>(lses + ((part.Widen() * I64Of(k, ref Fields.Block.Merge.PartialLogSumExpPartStride)) << 2));

        F32 sink = k.Variable("sink", float.NegativeInfinity);
        k.If(k.Parameter<I32>(Fields.OffsetOf(ref Fields.Block.HasSinks)).IsNot(0), () =>
        {
            I64 given = I64Of(k, ref Fields.Block.SinkLogits);
            var sinks = new Anywhere(I64.Select(given.Is(0), k.ParameterAddress() + MergeBlock.SinksBehindBlock, given));
            k.Load(sink, sinks + (head << 2));
        });

        F32 maximum = k.Variable("maximum", sink);
        k.For("part", 0, parts, 1, part => maximum.Set(F32.Max(maximum, LogSumExpOf(part))));
        F32 @base = ScoreWriter.BaseOf(maximum).As("base");
        // Under a large sink results may be below 2^-126.
        F32 WeightOf(F32 lse) => ((lse - @base) * Log2E).Exp2WithSubnormals();
        F32 total = k.Variable("total", WeightOf(sink));
        k.For("weighed_part", 0, parts, 1, part => total.Add(WeightOf(LogSumExpOf(part))));
        Predicate isEmpty = total.Is(0);

        Global to = Pointer(ref Fields.Block.Output)
            + (Along(ref Fields.Block.Merge.OutputBatchStride, ref Fields.Block.Merge.OutputQueryStride, ref Fields.Block.Merge.OutputHeadStride) * BytesOf(output));
        k.For("column", lane, I64Of(k, ref Fields.Block.Merge.Dim).ToI32(), 32, column =>
        {
            F32 sum = k.Variable("sum", (F32)0);
            k.For("added_part", 0, parts, 1, part =>
            {
                F32 lse = LogSumExpOf(part);
                k.If(lse.IsNot(float.NegativeInfinity), () =>
                {
                    I64 at = firstPartial + (part.Widen() * I64Of(k, ref Fields.Block.Merge.PartialPartStride)) + column.Widen();
                    F32 element = k.LoadElement(partial, Pointer(ref Fields.Block.Partials) + (at * BytesOf(partial)));
                    F32 weight = WeightOf(lse) / total;
                    sum.Set(F32.MultiplyAdd(element, F32.Select(element.IsFinite() | weight.IsNot(0), weight, 1), sum));
                });
            });
            k.StoreElement(output, to + I64.Product(column, BytesOf(output)), F32.Select(isEmpty, 0, sum));
        });

        I64 lseOut = I64Of(k, ref Fields.Block.LogSumExp);
        k.If(lane.Is(0) & lseOut.IsNot(0), () =>
        {
            I64 at = Along(ref Fields.Block.Merge.LogSumExpBatchStride, ref Fields.Block.Merge.LogSumExpQueryStride, ref Fields.Block.Merge.LogSumExpHeadStride);
            F32 lse = F32.MultiplyAdd(total.Log2(), Ln2, @base);
            k.Store(new Global(lseOut) + (at << 2), F32.Select(isEmpty, float.NegativeInfinity, lse));
        });
        k.Exit();
        return k;

        I64 Along(ref long batchStride, ref long queryStride, ref long headStride) =>
            (batch * I64Of(k, ref batchStride)) + (query * I64Of(k, ref queryStride)) + (head * I64Of(k, ref headStride));

        Global Pointer(ref ulong field) => new(I64Of(k, ref field));
    }

    private static I64 Quotient(I64 a, I64 b) => I64.From("div.u64", a, b);

    private static I64 I64Of<T>(PtxKernel k, ref T field) => k.Parameter<I64>(Fields.OffsetOf(ref field));

    private static int BytesOf(ElementFormat format) => format == ElementFormat.Float32 ? 4 : 2;
}
