using FusedAttention.Cuda.Ptx;
using Fields = FusedAttention.Cuda.Kernels.BlockFields<FusedAttention.Cuda.Kernels.CacheBlock>;

namespace FusedAttention.Cuda.Kernels;

/// <summary>
/// Writes new tokens into the slots of a paged cache: a block of threads takes the keys (y = 0) or the values (1) of one token, all heads, which lie side by side in the slot. A cache of 8 bits quantizes them on their way, a warp
/// a head: the same codes and scales, bit for bit, as the processor's.
/// </summary>
internal static class CacheKernel
{
    public const int Threads = 128;

    private const int Lanes = 32;

    /// <param name="source">Elements of the new tokens.</param>
    /// <param name="stored">Elements of the cache: the nearest, ties to even, where they differ; codes have a scale a head, which comes along where the new tokens are codes too.</param>
    public static PtxKernel Write(ElementFormat source, ElementFormat stored)
    {
        var k = new PtxKernel("append", PtxTarget.Sm80, Threads, 1, CallBlock.MostParameterBytes);
        Predicate isValue = k.BlockY().IsNot(0);
        I32 token = k.BlockX().As("token"), heads = I32Of(k, ref Fields.Block.Cache.Heads);
        I32 dim = I32.Select(isValue, I32Of(k, ref Fields.Block.Cache.ValueDim), I32Of(k, ref Fields.Block.Cache.KeyDim)).As("dim");
        I64 tokenStride = Either(ref Fields.Block.Cache.KeyTokenStride, ref Fields.Block.Cache.ValueTokenStride);
        I64 headStride = Either(ref Fields.Block.Cache.KeyHeadStride, ref Fields.Block.Cache.ValueHeadStride);
        Global from = new Global(Either(ref Fields.Block.Keys, ref Fields.Block.Values)) + (token.Widen() * tokenStride * source.Bytes());
        I64 given = I64Of(k, ref Fields.Block.Slots);
        var slots = new Anywhere(I64.Select(given.Is(0), k.ParameterAddress() + CacheBlock.SlotsBehindBlock, given));
        I64 slot = k.Load<I64>(slots + I64.Product(token, sizeof(long)));
        I32 elements = heads * dim;
        Global to = new Global(Either(ref Fields.Block.KeyCache, ref Fields.Block.ValueCache)) + (slot * elements.Widen() * stored.Bytes());
        if (stored.Bytes() > 1)
        {
            Copy();
            k.Exit();
            return k;
        }

        Global scales = new Global(Either(ref Fields.Block.KeyScaleCache, ref Fields.Block.ValueScaleCache)) + (slot * heads.Widen() * sizeof(float));
        if (source == stored)
        {
            Copy();
            Global newScales = new Global(Either(ref Fields.Block.KeyScales, ref Fields.Block.ValueScales)) + (I64.Product(token, heads) * sizeof(float));
            k.For("scale_of_head", k.ThreadIndex(), heads, Threads, head => k.Store(scales + I64.Product(head, sizeof(float)), k.Load<I32>(newScales + I64.Product(head, sizeof(float)))));
        }
        else
        {
            I32 lane = (k.ThreadIndex() & (Lanes - 1)).As("lane");
            k.For("head", k.ThreadIndex() >>> 5, heads, Threads / Lanes, head => Quantize(
                k, source, from + (head.Widen() * headStride * source.Bytes()), stored, to + I64.Product(head, dim), scales + I64.Product(head, sizeof(float)), lane, dim));
        }

        k.Exit();
        return k;

        I64 Either<T>(ref T ofKeys, ref T ofValues) => I64.Select(isValue, I64Of(k, ref ofValues), I64Of(k, ref ofKeys));

        void Copy() => k.For("element", k.ThreadIndex(), elements, Threads, element =>
        {
            I32 head = I32.Quotient(element, dim);
            Global origin = from + (((head.Widen() * headStride) + (element - (head * dim)).Widen()) * source.Bytes()), destination = to + I64.Product(element, stored.Bytes());
            // The same type: the bits, whatever they mean.
            if (source != stored) k.StoreElement(stored, destination, k.LoadElement(source, origin));
            else if (source == ElementFormat.Float32) k.Store(destination, k.Load<I32>(origin));
            else if (source.Bytes() == 1) k.StoreByte(destination, k.LoadByte(origin));
            else k.Store(destination, k.Load<B16>(origin));
        });
    }

    /// <summary>One head of one token, by a warp, in 32 bits: the largest magnitude, the scale from it, and each number divided by that. The row is read twice; the second time it is in the first-level cache.</summary>
    /// <param name="k">The kernel.</param>
    /// <param name="source">Elements of the row.</param>
    /// <param name="row">Where it begins.</param>
    /// <param name="stored">What the codes are.</param>
    /// <param name="codes">Where they go.</param>
    /// <param name="scale">Where its scale goes.</param>
    /// <param name="lane">Of the warp.</param>
    /// <param name="dim">Elements of the row.</param>
    private static void Quantize(PtxKernel k, ElementFormat source, Global row, ElementFormat stored, Global codes, Global scale, I32 lane, I32 dim)
    {
        F32 most = k.Variable("most", (F32)0f);
        k.For("number", lane, dim, Lanes, number => most.Set(F32.Max(most, NumberOf(number).Abs())));
        F32 largest = k.Max(most, 1, Lanes), quotient = largest / (stored == ElementFormat.Int8 ? 127f : 448f);

        // Where the quotient is 0, as of a row of zeros, whole numbers have the scale 0 and codes of 0, which division by infinity gives; Float8E4M3 has the scale 1.
        F32 found = stored == ElementFormat.Int8 ? quotient : F32.Select(quotient > 0, quotient, 1);
        F32 divisor = stored == ElementFormat.Int8 ? F32.Select(quotient.Is(0), float.PositiveInfinity, quotient) : found;
        k.Where(lane.Is(0), () => k.Store(scale, found));
        k.For("code", lane, dim, Lanes, number => k.StoreByte(codes + number.Widen(), EightBits.Nearest(stored, NumberOf(number) / divisor)));

        F32 NumberOf(I32 number) => k.LoadElement(source, row + I64.Product(number, source.Bytes()));
    }

    private static I32 I32Of(PtxKernel k, ref int field) => k.Parameter<I32>(Fields.OffsetOf(ref field));

    private static I64 I64Of<T>(PtxKernel k, ref T field) => k.Parameter<I64>(Fields.OffsetOf(ref field));
}
