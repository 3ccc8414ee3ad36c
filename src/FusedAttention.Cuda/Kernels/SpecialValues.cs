using FusedAttention.Cuda.Ptx;
using FusedAttention.Devices;

namespace FusedAttention.Cuda.Kernels;

/// <summary>
/// Values that are infinite or NaN, "special" for short. A weight of zero does not undo them (0 * NaN is NaN), and matrix products have one weight for each row and key. So an item whose sums are not all
/// finite at its end is computed once more, with zeros in their place: what a row may not see cannot change a bit of it. Then what rows do see of them is put into their results.
/// </summary>
/// <remarks>A special value is two bits, 1 for infinity, 2 for negative infinity, 3 for NaN, so that a sum of several is their bitwise or.</remarks>
/// <param name="k">The kernel.</param>
/// <param name="call">The call.</param>
/// <param name="span">Eight bytes of shared memory: the keys [first, end) among which all special values are.</param>
/// <param name="thread">Its number in the block.</param>
/// <param name="tileFormat">Of values in shared memory; null: as the call has them.</param>
internal sealed class SpecialValues(PtxKernel k, CallReader call, Shared span, I32 thread, ElementFormat? tileFormat = null)
{
    private const int NotANumber = 3;

    private ElementFormat TileFormat => tileFormat ?? call.KeyValueFormat;

    /// <summary>The exponent of a special 16-bit element.</summary>
    private int Exponent => TileFormat == ElementFormat.Float16 ? 0x7C00 : 0x7F80;

    /// <summary>Whether all of a lane's sums are numbers: a sum of them, each times 0, would be NaN otherwise, whatever the others are.</summary>
    public static Predicate AreNone(F32[] sums)
    {
        F32 together = sums[0] * 0;
        foreach (F32 sum in sums.AsSpan(1)) together = F32.MultiplyAdd(sum, 0, together);
        return together.IsFinite();
    }

    /// <summary>No special values so far. A barrier comes after it.</summary>
    public void Reset() => k.If(thread.Is(0), () => k.StoreVector<I32>(span, Constant(int.MaxValue), Constant(0)));

    /// <summary>Puts zeros in the place of a tile's special values, and notes their keys. Those who share the tile wait for each other before and after.</summary>
    /// <param name="tile">Values in shared memory.</param>
    /// <param name="layout">How they lie.</param>
    /// <param name="rows">Of the tile.</param>
    /// <param name="firstKey">Of the tile.</param>
    /// <param name="cleaners">Threads that clean it.</param>
    /// <param name="cleaner">This one's number among them.</param>
    public void Clean(Shared tile, SharedRows layout, int rows, I32 firstKey, int cleaners, I32 cleaner) =>
        Clean(tile, layout.Dim / SharedRows.Chunk, layout.Stride, rows, firstKey, cleaners, cleaner);

    /// <summary>The same of rows whose chunks lie in any order.</summary>
    /// <param name="tile">Values in shared memory.</param>
    /// <param name="chunks">Of a row, 16 bytes each.</param>
    /// <param name="stride">From a row to the next one, in bytes.</param>
    /// <param name="rows">Of the tile.</param>
    /// <param name="firstKey">Of the tile.</param>
    /// <param name="cleaners">Threads that clean it.</param>
    /// <param name="cleaner">This one's number among them.</param>
    public void Clean(Shared tile, int chunks, int stride, int rows, I32 firstKey, int cleaners, I32 cleaner)
    {
        // Whole numbers are finite.
        if (TileFormat == ElementFormat.Int8) return;
        k.For("chunk", cleaner, rows * chunks, cleaners, index =>
        {
            I32 row = I32.Quotient(index, chunks);
            Shared at = tile + I32.MultiplyAdd(row, stride, (index - (row * chunks)) << 4);
            I32[] elements = k.LoadVector<I32>(at, 4);
            I32 special = Constant(0);
            for (int i = 0; i < elements.Length; i++)
            {
                I32 kept = NotSpecial(elements[i]);
                special |= ~kept;
                elements[i] &= kept;
            }

            k.If(special.IsNot(0), () =>
            {
                k.StoreVector(at, elements);
                I32 key = firstKey + row;
                k.EmitText("red.shared.min.s32", span, key);
                k.EmitText("red.shared.max.s32", span + 4, key + 1);
            });
        });
    }

    /// <summary>All bits of the elements of a word that are finite, and none of the others'.</summary>
    private I32 NotSpecial(I32 elements)
    {
        if (TileFormat == ElementFormat.Float8E4M3)
        {
            // NaN has all bits but the sign, and 1 more is the sign.
            I32 special = (((elements & 0x7F7F7F7F) + 0x01010101) >>> 7) & 0x01010101;
            return ~(special * 0xFF);
        }

        Predicate low = (elements & Exponent).Is(Exponent), high = (elements & (Exponent << 16)).Is(Exponent << 16);
        return I32.Select(low, unchecked((int)0xFFFF0000), -1) & I32.Select(high, 0xFFFF, -1);
    }

    /// <summary>Adds what a row sees of the special values to its stored results: lanes share the columns. All threads have cleaned their tiles and stored their results before.</summary>
    /// <param name="row">The row.</param>
    /// <param name="values">The values of its key/value head.</param>
    /// <param name="results">Where its results lie.</param>
    /// <param name="format">Of the results.</param>
    /// <param name="lane">Of the warp.</param>
    /// <param name="keys">The keys of that head; looked at where there is a score function.</param>
    /// <param name="scales">Of the values, where tiles have them multiplied in; null: nothing is.</param>
    public void AddTo(RowReader row, KeyRows values, Global results, ElementFormat format, I32 lane, KeyRows? keys, ScaleRows? scales = null)
    {
        I32[] found = k.LoadVector<I32>(span, 2);
        I32 first = I32.Max(found[0], row.Start), end = I32.Min(found[1], row.End);
        int bytes = format.Bytes();
        k.For("column", lane, call.Traits.ValueDim, 32, column =>
        {
            I32 special = k.Variable("special", (I32)0);
            k.For("special_key", first, end, 1, key =>
            {
                F32 value = k.LoadElement(call.KeyValueFormat, values.Of(key) + I64.Product(column, call.KeyValueFormat.Bytes()));
                if (scales is not null) value = B16.Of(TileFormat, value * k.Load<F32>(scales.Of(key))).Widen(TileFormat);
                k.If(!value.IsFinite(), () => k.If(Sees(row, key, keys), () => special.Set(special | BitsOf(value))));
            });
            k.If(special.IsNot(0), () =>
            {
                Global at = results + I64.Product(column, bytes);
                F32 result = k.LoadElement(format, at);
                I32 all = special | I32.Select(result.IsFinite().InRegister(), 0, BitsOf(result));
                I32 bits = I32.Select(all.Is(NotANumber), 0x7FC00000, I32.Select(all.Is(1), 0x7F800000, unchecked((int)0xFF800000)));
                k.StoreElement(format, at, bits.AsF32());
            });
        });
    }

    /// <summary>Whether a row sees a key in its reach.</summary>
    private Predicate Sees(RowReader row, I32 key, KeyRows? keys)
    {
        Predicate sees = (key >= row.Start) & (key < row.End);

        // A score function may exclude any key, by its score: as that is rare, and so is this place, it is computed again.
        if (call.Traits.Has(CallFeatures.ScoreFunction)) return sees & ScoreOf(row, key, keys!).IsNot(float.NegativeInfinity);
        if (row.Mask is not null) sees &= k.LoadByte(row.Mask + key.Widen()).IsNot(0);
        if (row.Bias is not null)
        {
            ElementFormat format = CallReader.FormatOf(call.Traits.BiasType);
            sees &= k.LoadElement(format, row.Bias + (key.Widen() * (format == ElementFormat.Float32 ? 4 : 2))).IsNot(float.NegativeInfinity);
        }

        if (call.Traits.Has(CallFeatures.MaskFunction)) sees &= RowFunctions.Of(k, call, row, key)!.Keep!.Keeps(0);
        return sees;
    }

    private F32 ScoreOf(RowReader row, I32 key, KeyRows keys)
    {
        F32 product = k.Variable("special_product", (F32)0);
        (Global query, Global elements) = (row.QueryElements, keys.Of(key));
        k.For("special_dim", 0, call.Traits.KeyDim, 1, dim =>
        {
            I64 at = I64.Product(dim, 2);
            product.AddProduct(k.LoadElement(call.QueryFormat, query + at), k.LoadElement(call.KeyValueFormat, elements + at));
        });
        return ScoreWriter.ScoreOf(k, call, row, product, key, row.Slope is null ? null : (row.Position - key.Widen()).ToF32());
    }

    private static I32 BitsOf(F32 value)
    {
        I32 bits = value.AsI32();
        I32 infinity = I32.Select(bits.Is(unchecked((int)0xFF800000)), 2, 1);
        return I32.Select((bits & 0x007FFFFF).IsNot(0), NotANumber, infinity);
    }

    private I32 Constant(int value) => k.Variable("constant", (I32)value);
}
