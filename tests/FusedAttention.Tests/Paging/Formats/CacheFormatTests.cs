using FusedAttention.Paging.Formats;
using Xunit;

namespace FusedAttention.Tests.Paging.Formats;

public sealed class CacheFormatTests
{
    private static readonly PagedKeyValueCacheOptions Options = new() { Blocks = 3, BlockSize = 4, KeyValueHeads = 5, KeyDim = 6, ValueDim = 7 };

    [Fact]
    public void Keys_and_values_are_planes()
    {
        CacheFormat format = CacheFormat.Of<Half>(Options);
        Assert.Equal((AttentionElementType.Float16, 5), (format.ElementType, format.Heads));
        Assert.Equal(
            [new("keys", CachePart.Keys, AttentionElementType.Float16, 6), new("values", CachePart.Values, AttentionElementType.Float16, 7)],
            format.Planes.ToArray());
        Assert.Equal((60L, 70L), (format.TokenBytes(CacheFormat.Keys), format.TokenBytes(CacheFormat.Values)));
        Assert.Equal(120L, CacheFormat.Of<float>(Options).TokenBytes(CacheFormat.Keys));
        Assert.Equal(AttentionElementType.BFloat16, CacheFormat.Of<BFloat16>(Options).Planes[1].ElementType);
        Assert.Throws<NotSupportedException>(() => CacheFormat.Of<int>(Options));
    }

    /// <summary>Codes of devices have scales beside them: blocks, which hold their own, are for the host.</summary>
    [Fact]
    public void Codes_have_planes_of_scales_beside_them()
    {
        CacheFormat format = CacheFormat.OfDevice<sbyte>(Options);
        Assert.Equal(
            [
                new("keys", CachePart.Keys, AttentionElementType.Int8, 6), new("values", CachePart.Values, AttentionElementType.Int8, 7),
                new("scales of keys", CachePart.Keys, AttentionElementType.Float32, 1), new("scales of values", CachePart.Values, AttentionElementType.Float32, 1),
            ],
            format.Planes.ToArray());
        Assert.Equal((true, 30L, 20L), (format.HasScales, format.TokenBytes(CacheFormat.Keys), format.TokenBytes(CacheFormat.ValueScales)));
        Assert.Equal((AttentionElementType.Float8E4M3, false), (CacheFormat.OfDevice<Float8E4M3>(Options).ElementType, CacheFormat.OfDevice<Half>(Options).HasScales));
        Assert.Throws<NotSupportedException>(() => CacheFormat.Of<sbyte>(Options));
        Assert.Contains("sbyte or Float8E4M3, not FusedAttention.Q8Block", Assert.Throws<NotSupportedException>(() => CacheFormat.OfDevice<Q8Block>(Options)).Message, StringComparison.Ordinal);
    }

    /// <summary>Rows of every layout into each type, beside a plain loop.</summary>
    [Theory]
    [InlineData(15, 3, 1)]          // packed
    [InlineData(20, 3, 1)]          // gaps between tokens
    [InlineData(3, 12, 1)]          // heads outside of tokens
    [InlineData(2000, 400, 2)]      // every other element
    [InlineData(1, 5000, 1000)]     // everything the wrong way round
    public unsafe void Rows_are_converted_whatever_their_strides(int tokenStride, int headStride, int elementStride)
    {
        const int Tokens = 4, Heads = 5, Dim = 3;
        float[] source = new float[(3 * tokenStride) + (4 * headStride) + (2 * elementStride) + 1];
        var random = new Random(1);
        foreach (ref float x in source.AsSpan()) x = (float)((random.NextDouble() * 8) - 4);
        FusedAttention.Tensors.TensorLayout layout = FusedAttention.Tensors.TensorLayout.Of([Tokens, Heads, Dim], [tokenStride, headStride, elementStride]);
        var options = new PagedKeyValueCacheOptions { Blocks = 1, BlockSize = 8, KeyValueHeads = Heads, KeyDim = Dim };
        var halves = new Half[Tokens * Heads * Dim];
        var floats = new float[halves.Length];
        var bfloats = new BFloat16[halves.Length];
        fixed (float* first = source, sameType = floats)
        fixed (Half* half = halves)
        fixed (BFloat16* bfloat = bfloats)
        {
            var rows = new TokenRows(AttentionElementType.Float32, first, layout);
            CacheFormat.Of<Half>(options).Store(CachePart.Keys, rows, 1, 3, (byte*)half, null);
            CacheFormat.Of<BFloat16>(options).Store(CachePart.Values, rows, 1, 3, (byte*)bfloat, null);
            CacheFormat.Of<float>(options).Store(CachePart.Keys, rows, 1, 3, (byte*)sameType, null);
        }

        for (int i = 0; i < halves.Length; i++)
        {
            int token = i / (Heads * Dim), head = i / Dim % Heads, element = i % Dim;
            float expected = token < 3 ? source[((token + 1) * tokenStride) + (head * headStride) + (element * elementStride)] : 0;
            Assert.Equal((expected, (Half)expected, (BFloat16)expected), (floats[i], halves[i], bfloats[i]));
        }
    }

    /// <summary>Longer than what is gathered at once.</summary>
    [Fact]
    public unsafe void Long_rows_of_elements_apart_are_gathered()
    {
        const int Dim = 700;
        Half[] source = [.. Enumerable.Range(0, 3 * Dim).Select(static i => (Half)i)];
        var floats = new float[Dim];
        fixed (Half* first = source)
        fixed (float* row = floats)
        {
            var rows = new TokenRows(AttentionElementType.Float16, first, FusedAttention.Tensors.TensorLayout.Of([1, 1, Dim], [0, 0, 3]));
            rows.CopyTo(AttentionElementType.Float32, (byte*)row, 0, 1);
        }

        for (int i = 0; i < Dim; i++) Assert.Equal((float)(Half)(3 * i), floats[i]);
    }
}
