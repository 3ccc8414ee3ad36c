using FusedAttention.Problems;
using FusedAttention.Tensors;
using Xunit;

namespace FusedAttention.Tests.Problems;

/// <summary>Each check by itself: what passes, and what an exception names. What overlaps is compared with sets of addresses.</summary>
public sealed unsafe class ArgumentChecksTests
{
    [Fact]
    public void Element_types_are_three()
    {
        Assert.Equal(AttentionElementType.Float32, ElementTypes.Of<float>("query"));
        Assert.Equal(AttentionElementType.Float16, ElementTypes.Of<Half>("query"));
        Assert.Equal(AttentionElementType.BFloat16, ElementTypes.Of<BFloat16>("query"));
        Refused("query", () => ElementTypes.Of<double>("query"), "Double");
        Refused("query", () => ElementTypes.Of<sbyte>("query"), "SByte", "keys and values");
        Assert.Equal(AttentionElementType.Int8, ElementTypes.OfKeyValue<sbyte>("key"));
        Assert.Equal(AttentionElementType.Float8E4M3, ElementTypes.OfKeyValue<Float8E4M3>("key"));
        Assert.Equal(AttentionElementType.Q8Block, ElementTypes.OfKeyValue<Q8Block>("key"));
        Assert.Equal(AttentionElementType.Float16, ElementTypes.OfKeyValue<Half>("key"));
        Refused("key", () => ElementTypes.OfKeyValue<byte>("key"), "Byte");
        Refused("query", () => ElementTypes.Of<ushort>("query"), "UInt16");
    }

    [Fact]
    public void Keys_have_the_querys_type_or_16_bits_under_float_or_8_bits()
    {
        AttentionElementType[] types = [AttentionElementType.Float32, AttentionElementType.Float16, AttentionElementType.BFloat16];
        foreach (AttentionElementType query in types)
        {
            foreach (AttentionElementType keyValue in types)
            {
                if (query == keyValue || query == AttentionElementType.Float32) ArgumentChecks.TypePair(query, keyValue, "key");
                else Refused("key", () => ArgumentChecks.TypePair(query, keyValue, "key"), $"{keyValue}", $"{query}");
            }

            foreach (AttentionElementType keyValue in (AttentionElementType[])[AttentionElementType.Int8, AttentionElementType.Float8E4M3, AttentionElementType.Q8Block]) ArgumentChecks.TypePair(query, keyValue, "key");
        }
    }

    [Fact]
    public void Shapes_are_named_with_what_was_expected()
    {
        Refused("key", () => ArgumentChecks.Rank(Layout([2, 3]), "key", 4, "[batch, tokens, heads, dim]"), "[2, 3]", "[batch, tokens, heads, dim]");
        ArgumentChecks.Rank(Layout([2, 3]), "key", 2, "");
        Refused("key", () => ArgumentChecks.Length(Layout([2, 3, 5, 8]), "key", 1, 4, "the number of tokens"), "[2, 3, 5, 8]", "dimension 1 is 3", "the number of tokens is 4");
        ArgumentChecks.Length(Layout([2, 3, 5, 8]), "key", 1, 3, "");
    }

    /// <summary>A caller of rank 3 knows nothing of a fourth dimension in front of it.</summary>
    [Fact]
    public void Dimensions_are_counted_as_the_caller_counts_them()
        => Refused("key", () => ArgumentChecks.Length(Layout([3, 5, 8]).PaddedTo(4), "key", 2, 4, "the number of heads"), "[3, 5, 8]", "dimension 1 is 5");

    [Theory]
    [InlineData(1, true)]
    [InlineData(4096, true)]
    [InlineData(0, false)]
    [InlineData(4097, false)]
    public void Dims_run_from_1_to_4096(long dim, bool isFine)
    {
        if (isFine) ArgumentChecks.Dim(dim, "value", "value dimension");
        else Refused("value", () => ArgumentChecks.Dim(dim, "value", "value dimension"), "value dimension", $"{dim}", "4096");
    }

    [Fact]
    public void Key_value_heads_divide_the_query_heads()
    {
        ArgumentChecks.Heads(8, 8, "query", "key");
        ArgumentChecks.Heads(71, 1, "query", "key");
        Refused("query", () => ArgumentChecks.Heads(0, 1, "query", "key"), "0 heads");
        Refused("key", () => ArgumentChecks.Heads(8, 0, "query", "key"), "0 key/value heads");
        Refused("key", () => ArgumentChecks.Heads(8, 3, "query", "key"), "3", "8");
        Refused("key", () => ArgumentChecks.Heads(4, 8, "query", "key"), "8", "4");
    }

    [Fact]
    public void The_last_dimension_is_contiguous_unless_it_is_not_stepped_over()
    {
        ArgumentChecks.ContiguousLast(Layout([4, 8], [8, 1]), "key");
        ArgumentChecks.ContiguousLast(Layout([4, 1], [8, 5]), "key");
        ArgumentChecks.ContiguousLast(Layout([0, 8], [8, 2]), "key");
        Refused("key", () => ArgumentChecks.ContiguousLast(Layout([4, 8], [16, 2]), "key"), "[4, 8]", "stride 2");
    }

    [Fact]
    public void Lengths_are_32_bit_numbers()
    {
        ArgumentChecks.FitsInt(Layout([int.MaxValue, 1]), "key");
        Refused("key", () => ArgumentChecks.FitsInt(Layout([1, int.MaxValue + 1L]), "key"), "2147483647");
    }

    [Fact]
    public void A_value_per_head_is_one_each_or_none()
    {
        ArgumentChecks.PerHead(0, 8, "SinkLogits");
        ArgumentChecks.PerHead(8, 8, "SinkLogits");
        Refused("options", () => ArgumentChecks.PerHead(2, 8, "SinkLogits"), "SinkLogits", "2", "8");
    }

    [Fact]
    public void No_output_that_overlaps_itself_passes()
    {
        var random = new Random(1);
        int accepted = 0, refused = 0;
        for (int i = 0; i < 5_000; i++)
        {
            TensorLayout layout = Layout([random.Next(1, 4), random.Next(1, 4), random.Next(1, 4)], [random.Next(0, 13), random.Next(0, 13), random.Next(0, 13)]);
            long[] offsets = Offsets(layout);
            bool isRefused = Record.Exception(() => ArgumentChecks.NotSelfOverlapping(layout, "output", "output")) is ArgumentException;
            if (offsets.Distinct().Count() < offsets.Length) Assert.True(isRefused, $"{layout} with strides [{string.Join(", ", layout.Strides.ToArray())}] overlaps itself and passes.");
            if (isRefused) refused++;
            else accepted++;
        }

        Assert.True(accepted > 500 && refused > 500, $"{accepted} accepted, {refused} refused.");
    }

    [Fact]
    public void Outputs_without_gaps_pass_in_any_order_of_dimensions()
    {
        foreach ((int a, int b, int c) in ((int, int, int)[])[(0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)])
        {
            long[] lengths = [3, 4, 5], strides = new long[3];
            strides[c] = 1;
            strides[b] = lengths[c];
            strides[a] = lengths[c] * lengths[b];
            ArgumentChecks.NotSelfOverlapping(Layout(lengths, strides), "output", "output");
            strides[a]--;
            Refused("output", () => ArgumentChecks.NotSelfOverlapping(Layout(lengths, strides), "output", "output"), "[3, 4, 5]", $"{strides[a]}");
        }
    }

    /// <summary>Slices of packed rows of many kinds, beside, inside and across each other.</summary>
    [Fact]
    public void No_output_that_shares_a_byte_with_another_tensor_passes()
    {
        var random = new Random(2);
        int interleaved = 0, refused = 0;
        for (int i = 0; i < 5_000; i++)
        {
            (TensorLayout output, int outputSize) = NextSlice();
            (TensorLayout other, int otherSize) = NextSlice();
            long distance = random.Next(-60, 60) * Math.Min(outputSize, otherSize);
            byte* at = (byte*)(1 << 20);
            Exception? exception = Record.Exception(() => ArgumentChecks.NotOverlapping(Tensor(at, output, outputSize, "output"), "output", Tensor(at + distance, other, otherSize, "query")));
            bool isShared = Bytes(output, outputSize, 0).Overlaps(Bytes(other, otherSize, distance));
            if (isShared) Assert.True(exception is ArgumentException, $"{output} and {other} at a distance of {distance} bytes share memory and pass.");
            if (exception is not null) refused++;
            else if (distance < output.Extent * outputSize && -distance < other.Extent * otherSize) interleaved++;
        }

        Assert.True(interleaved > 25 && refused > 500, $"{interleaved} interleaved, {refused} refused.");

        (TensorLayout Layout, int Size) NextSlice()
        {
            int heads = random.Next(1, 3), dim = random.Next(1, 4);
            long token = random.Next(2) == 0 ? 12 : random.Next(heads * dim, 14);
            return (Layout([random.Next(1, 3), random.Next(1, 5), heads, dim], [5 * token, token, dim, 1]), random.Next(2) == 0 ? 4 : 2);
        }
    }

    [Fact]
    public void Slices_of_one_packed_row_pass()
    {
        // [tokens, 3, heads, dim] as query, key and value, each of 2 heads of 4: rows of 24 elements.
        TensorLayout slice = Layout([2, 5, 2, 4], [120, 24, 4, 1]);
        byte* at = (byte*)(1 << 20);
        foreach (int third in (int[])[-2, -1, 1, 2]) ArgumentChecks.NotOverlapping(Tensor(at, slice, 4, "output"), "output", Tensor(at + (third * 8 * 4), slice, 4, "query"));
        Refused("output", () => ArgumentChecks.NotOverlapping(Tensor(at, slice, 4, "output"), "output", Tensor(at + (7 * 4), slice, 4, "query")), "output", "query", "[2, 5, 2, 4]");
        Refused("output", () => ArgumentChecks.NotOverlapping(Tensor(at, slice, 4, "output"), "output", Tensor(at, slice, 4, "query")));
    }

    private static TensorArgument Tensor(byte* at, in TensorLayout layout, int elementBytes, string name) => new() { Pointer = at, Layout = layout, ElementBytes = elementBytes, Name = name };

    private static void Refused(string parameter, Action check, params ReadOnlySpan<string> words)
    {
        ArgumentException exception = Assert.ThrowsAny<ArgumentException>(check);
        Assert.Equal(parameter, exception.ParamName);
        foreach (string word in words) Assert.Contains(word, exception.Message, StringComparison.Ordinal);
    }

    private static TensorLayout Layout(long[] lengths, long[]? strides = null)
    {
        if (strides is null)
        {
            strides = new long[lengths.Length];
            long next = 1;
            for (int i = lengths.Length - 1; i >= 0; i--)
            {
                strides[i] = next;
                next *= lengths[i];
            }
        }

        return TensorLayout.Of([.. lengths.Select(n => (nint)n)], [.. strides.Select(n => (nint)n)]);
    }

    /// <summary>Where each element lies.</summary>
    private static long[] Offsets(in TensorLayout layout)
    {
        IEnumerable<long> offsets = [0];
        for (int i = 0; i < layout.Rank; i++)
        {
            long length = layout.Lengths[i], stride = layout.Strides[i];
            offsets = [.. offsets.SelectMany(offset => Enumerable.Range(0, (int)length).Select(k => offset + (k * stride)))];
        }

        return [.. offsets];
    }

    private static HashSet<long> Bytes(in TensorLayout layout, int size, long start)
        => [.. Offsets(layout).SelectMany(offset => Enumerable.Range(0, size).Select(b => start + (offset * size) + b))];
}
