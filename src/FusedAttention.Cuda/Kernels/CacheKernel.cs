using FusedAttention.Cuda.Ptx;
using Fields = FusedAttention.Cuda.Kernels.BlockFields<FusedAttention.Cuda.Kernels.CacheBlock>;

namespace FusedAttention.Cuda.Kernels;

/// <summary>Writes new tokens into the slots of a paged cache: a block of threads takes the keys (y = 0) or the values (1) of one token, all heads, which lie side by side in the slot.</summary>
internal static class CacheKernel
{
    public const int Threads = 128;

    /// <param name="source">Elements of the new tokens.</param>
    /// <param name="stored">Elements of the cache: the nearest, ties to even, where they differ.</param>
    public static PtxKernel Write(ElementFormat source, ElementFormat stored)
    {
        var k = new PtxKernel("append", PtxTarget.Sm80, Threads, 1, CallBlock.MostParameterBytes);
        Predicate isValue = k.BlockY().IsNot(0);
        I32 token = k.BlockX().As("token"), heads = I32Of(k, ref Fields.Block.Cache.Heads);
        I32 dim = I32.Select(isValue, I32Of(k, ref Fields.Block.Cache.ValueDim), I32Of(k, ref Fields.Block.Cache.KeyDim)).As("dim");
        I64 tokenStride = Either(ref Fields.Block.Cache.KeyTokenStride, ref Fields.Block.Cache.ValueTokenStride);
        I64 headStride = Either(ref Fields.Block.Cache.KeyHeadStride, ref Fields.Block.Cache.ValueHeadStride);
        Global from = new Global(Either(ref Fields.Block.Keys, ref Fields.Block.Values)) + (token.Widen() * tokenStride * BytesOf(source));
        I64 given = I64Of(k, ref Fields.Block.Slots);
        var slots = new Anywhere(I64.Select(given.Is(0), k.ParameterAddress() + CacheBlock.SlotsBehindBlock, given));
        I64 slot = k.Load<I64>(slots + I64.Product(token, sizeof(long)));
        I32 elements = heads * dim;
        Global to = new Global(Either(ref Fields.Block.KeyCache, ref Fields.Block.ValueCache)) + (slot * elements.Widen() * BytesOf(stored));

        k.For("element", k.ThreadIndex(), elements, Threads, element =>
        {
            I32 head = I32.Quotient(element, dim);
            Global origin = from + (((head.Widen() * headStride) + (element - (head * dim)).Widen()) * BytesOf(source)), destination = to + I64.Product(element, BytesOf(stored));
            // The same type: the bits, whatever they mean.
            if (source != stored) k.StoreElement(stored, destination, k.LoadElement(source, origin));
            else if (source == ElementFormat.Float32) k.Store(destination, k.Load<I32>(origin));
            else k.Store(destination, k.Load<B16>(origin));
        });
        k.Exit();
        return k;

        I64 Either<T>(ref T ofKeys, ref T ofValues) => I64.Select(isValue, I64Of(k, ref ofValues), I64Of(k, ref ofKeys));
    }

    private static I32 I32Of(PtxKernel k, ref int field) => k.Parameter<I32>(Fields.OffsetOf(ref field));

    private static I64 I64Of<T>(PtxKernel k, ref T field) => k.Parameter<I64>(Fields.OffsetOf(ref field));

    private static int BytesOf(ElementFormat format) => format == ElementFormat.Float32 ? 4 : 2;
}
