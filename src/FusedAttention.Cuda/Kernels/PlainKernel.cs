using FusedAttention.Cuda.Ptx;
using FusedAttention.Devices;

namespace FusedAttention.Cuda.Kernels;

/// <summary>
/// Attention of one row a warp: any dimensions and strides, every feature, no shared memory. The path for what the other kernels do not take, and what those are compared with on a device.
/// </summary>
/// <remarks>
/// Lanes share the dimensions: lane l has l, l + 32, ... of Q, K, V and O. Then they share the keys: 32 products make a tile, and each lane takes one of them through the softmax. A key that the row
/// may not see is skipped, so what its value holds cannot show; a tile's weighted values are summed on their own and then added.
/// </remarks>
internal static class PlainKernel
{
    private const int WarpSize = 32;

    /// <param name="traits">What it is specialised for.</param>
    /// <param name="warps">Of a block.</param>
    /// <param name="hasLongParameters">Whether the parameter has <see cref="CallBlock.LongParameterBytes"/>.</param>
    public static PtxKernel Write(in KernelTraits traits, int warps, bool hasLongParameters = false)
    {
        var k = new PtxKernel("plain", PtxTarget.Sm80, warps * WarpSize, 1, CallBlock.BytesOf(hasLongParameters));
        var call = new CallReader(k, traits);
        var place = new WorkPlace(k, call);
        (ItemReader item, I32 head, SequenceReader sequence) = (place.Item, place.Head, place.Sequence);
        I32 thread = k.ThreadIndex();
        I32 lane = (thread & (WarpSize - 1)).As("lane"), warp = (thread >>> 5).As("warp");
        KeyRows keys = KeyRows.Keys(k, call, sequence, head), values = KeyRows.Values(k, call, sequence, head);
        F32 unit = ScoreWriter.Unit(call), factor = ScoreWriter.Factor(call);

        ScaleRows? keyScales = ScaleRows.Keys(k, call, sequence, item.Sequence, head), valueScales = ScaleRows.Values(k, call, sequence, item.Sequence, head);
        var row = new Row(k, call, sequence, keys, values, keyScales, valueScales, item, head, lane, unit, factor);
        k.For("row", item.FirstRow + warp, item.EndRow, warps, row.Write);
        k.If(item.Splits > 1, () => k.If(SplitArrival.IsLast(k, call, place, thread), () => k.For("merged_row", item.FirstRow + warp, item.EndRow, warps, row.Merge)));
        k.Exit();
        return k;
    }

    /// <summary>One row, by a warp.</summary>
    private sealed class Row(
        PtxKernel k, CallReader call, SequenceReader sequence, KeyRows keys, KeyRows values, ScaleRows? keyScales, ScaleRows? valueScales, ItemReader item, I32 head, I32 lane, F32 unit, F32 factor)
    {
        private readonly Columns _keyColumns = new(k, lane, call.Traits.KeyDim), _valueColumns = new(k, lane, call.Traits.ValueDim);

        public void Write(I32 index)
        {
            var row = RowReader.Of(k, call, sequence, head, index, item);
            F32[] query = _keyColumns.Load(call.QueryFormat, row.QueryElements);
            F32[] outputs = k.Variables("o", _valueColumns.Count, 0);
            F32 maximum = k.Variable("maximum", float.NegativeInfinity), sum = k.Variable("sum", (F32)0);

            k.For("tile", row.Start & -WarpSize, row.End, WarpSize, tile =>
            {
                I32 first = I32.Max(row.Start, tile), end = I32.Min(row.End, tile + WarpSize);
                F32 score = Score(row, Products(query, tile, first, end), tile, first, end);

                F32 newMaximum = F32.Max(maximum, k.Max(score, 1, WarpSize));
                F32 @base = ScoreWriter.BaseOf(newMaximum);
                F32 rescale = ScoreWriter.WeightOf(maximum, @base, factor), weight = ScoreWriter.WeightOf(score, @base, factor);
                maximum.Set(newMaximum);
                sum.Set(F32.MultiplyAdd(sum, rescale, k.Sum(weight, 1, WarpSize)));

                F32[] sums = WeightedValues(score, weight, tile, first, end);
                for (int i = 0; i < sums.Length; i++) outputs[i].Set(F32.MultiplyAdd(outputs[i], rescale, sums[i]));
            });

            k.If(item.Partial < 0, () => StoreOutput(row, outputs, maximum, sum), () => StorePartial(index, outputs, maximum, sum));
        }

        /// <summary>The row's splits, in their order.</summary>
        public void Merge(I32 index)
        {
            var row = RowReader.Of(k, call, sequence, head, index, item);
            I64 stride = PartialRows.Stride(call, sequence), first = PartialRows.OfFirstSplit(call, sequence, item, head, index);
            F32 maximum = k.Variable("merged_maximum", float.NegativeInfinity);
            k.For("split", 0, item.Splits, 1, split => maximum.Set(F32.Max(maximum, k.Load<F32>(PartialRows.Statistics(call, I64.MultiplyAdd(split.Widen(), stride, first))))));
            F32 @base = ScoreWriter.BaseOf(maximum);

            F32[] outputs = k.Variables("merged_o", _valueColumns.Count, 0);
            F32 sum = k.Variable("merged_sum", (F32)0);
            k.For("merged_split", 0, item.Splits, 1, split =>
            {
                I64 partial = I64.MultiplyAdd(split.Widen(), stride, first);
                F32[] statistics = k.LoadVector<F32>(PartialRows.Statistics(call, partial), 2);
                F32 weight = ScoreWriter.WeightOf(statistics[0], @base, factor);
                sum.Set(F32.MultiplyAdd(statistics[1], weight, sum));
                F32[] elements = _valueColumns.Load(ElementFormat.Float32, PartialRows.Outputs(call, partial));

                // An infinite or undefined sum stays what it is, though its weight may have become 0.
                for (int i = 0; i < outputs.Length; i++) outputs[i].AddProduct(elements[i], F32.Select(elements[i].IsFinite(), weight, 1));
            });
            StoreOutput(row, outputs, maximum, sum);
        }

        /// <summary>Products of the query with keys [first, end) of a tile, each in the lane of its key.</summary>
        private F32 Products(F32[] query, I32 tile, I32 first, I32 end)
        {
            F32 products = k.Variable("product", (F32)0);
            k.For("key", first, end, 1, key =>
            {
                F32[] elements = _keyColumns.Load(call.KeyValueFormat, keys.Of(key));
                F32 product = query[0] * elements[0];
                for (int i = 1; i < elements.Length; i++) product = F32.MultiplyAdd(query[i], elements[i], product);
                F32 whole = k.Sum(product, 1, WarpSize);
                products.Set(F32.Select((key - tile).Is(lane), whole, products));
            });
            return products;
        }

        /// <summary>The score of the lane's key.</summary>
        private F32 Score(RowReader row, F32 product, I32 tile, I32 first, I32 end)
        {
            I32 key = tile + lane;
            F32 score = k.Variable("score", float.NegativeInfinity);
            k.If((key >= first) & (key < end), () =>
            {
                F32? distance = row.Slope is null ? null : (row.Position - key.Widen()).ToF32();
                F32 scaled = keyScales is null ? product : product * k.Load<F32>(keyScales.Of(key));
                score.Set(ScoreWriter.ScoreOf(k, call, row, scaled, key, distance));
            });
            return score;
        }

        private F32[] WeightedValues(F32 score, F32 weight, I32 tile, I32 first, I32 end)
        {
            F32[] sums = k.Variables("tile_sum", _valueColumns.Count, 0);
            k.For("value", first, end, 1, key =>
            {
                I32 source = key - tile;
                F32 w = k.ShuffleFrom(weight, source);
                k.If(k.ShuffleFrom(score, source).IsNot(float.NegativeInfinity), () =>
                {
                    F32[] elements = _valueColumns.Load(call.KeyValueFormat, values.Of(key));
                    F32 scaled = valueScales is null ? w : w * k.Load<F32>(valueScales.Of(key));
                    for (int i = 0; i < sums.Length; i++) sums[i].AddProduct(scaled, elements[i]);
                });
            });
            return sums;
        }

        private void StoreOutput(RowReader row, F32[] outputs, F32 maximum, F32 sum)
        {
            RowEnd end = RowEnd.Of(call, row, maximum, sum, unit);
            _valueColumns.Store(call.QueryFormat, row.OutputElements, outputs, end.Factor);
            if (call.Traits.Has(CallFeatures.LogSumExp)) k.If(lane.Is(0), () => row.StoreLogSumExp(end.LogSumExp));
        }

        private void StorePartial(I32 index, F32[] outputs, F32 maximum, F32 sum)
        {
            I64 partial = PartialRows.Of(call, sequence, item.Partial, head, index);
            _valueColumns.Store(ElementFormat.Float32, PartialRows.Outputs(call, partial), outputs, factor: null);
            k.If(lane.Is(0), () => k.StoreVector(PartialRows.Statistics(call, partial), maximum, sum));
        }
    }

    /// <summary>The columns of a row that a lane has: its own number, and every 32nd from there.</summary>
    private sealed class Columns(PtxKernel k, I32 lane, int dim)
    {
        public int Count { get; } = (dim + WarpSize - 1) / WarpSize;

        /// <summary>The lane's elements; zero beyond the last column.</summary>
        public F32[] Load(ElementFormat format, Global row)
        {
            int bytes = format.Bytes();
            Global mine = row + I64.Product(lane, bytes);
            var elements = new F32[Count];
            for (int i = 0; i < Count; i++)
            {
                Global at = mine + (i * WarpSize * bytes);
                if (IsWhole(i))
                {
                    elements[i] = k.LoadElement(format, at);
                }
                else
                {
                    F32 element = F32.In(k);
                    element.Set(0);
                    k.If(IsInside(i), () => element.Set(k.LoadElement(format, at)));
                    elements[i] = element;
                }
            }

            return elements;
        }

        /// <summary>Stores the lane's elements, each times <paramref name="factor"/>.</summary>
        public void Store(ElementFormat format, Global row, F32[] elements, F32? factor)
        {
            int bytes = format.Bytes();
            Global mine = row + I64.Product(lane, bytes);
            for (int i = 0; i < Count; i++)
            {
                Global at = mine + (i * WarpSize * bytes);
                F32 element = factor is null ? elements[i] : elements[i] * factor;
                if (IsWhole(i)) k.StoreElement(format, at, element);
                else k.If(IsInside(i), () => k.StoreElement(format, at, element));
            }
        }

        private bool IsWhole(int slot) => (slot + 1) * WarpSize <= dim;

        private Predicate IsInside(int slot) => lane < dim - (slot * WarpSize);
    }
}
