using System.Buffers;

namespace FusedAttention.Devices;

/// <summary>Lengths and strides (in elements) of a tensor over part of some memory of a device. Dimensions of length 1 or 0 have stride 0, as in tensor spans.</summary>
internal sealed class ViewLayout
{
    private readonly nint[] _lengths;
    private readonly nint[] _strides;

    private ViewLayout(nint[] lengths, nint[] strides, long extent, long count)
    {
        _lengths = lengths;
        _strides = strides;
        Extent = extent;
        Count = count;
        IsDense = strides.AsSpan().SequenceEqual(ContiguousStrides(lengths));
    }

    public ReadOnlySpan<nint> Lengths => _lengths;

    public ReadOnlySpan<nint> Strides => _strides;

    /// <summary>One past the offset of the furthest element; 0 if there is none.</summary>
    public long Extent { get; }

    /// <summary>How many elements.</summary>
    public long Count { get; }

    /// <summary>Whether the elements lie one after the other in row-major order.</summary>
    public bool IsDense { get; }

    /// <exception cref="ArgumentException">A length is negative, or the bytes do not fit the address space.</exception>
    public static ViewLayout Contiguous(ReadOnlySpan<nint> lengths, int elementBytes, string name)
    {
        nint[] own = lengths.ToArray();
        long count = CountOf(own, elementBytes, name);
        return new(own, ContiguousStrides(own), count, count);
    }

    /// <exception cref="ArgumentException">A length or stride is negative, their numbers differ, or an element would lie beyond <paramref name="available"/>.</exception>
    public static ViewLayout Strided(ReadOnlySpan<nint> lengths, ReadOnlySpan<nint> strides, long available, int elementBytes)
    {
        if (strides.Length != lengths.Length) throw new ArgumentException($"There are {strides.Length} strides for {lengths.Length} dimensions.", nameof(strides));
        nint[] own = lengths.ToArray(), steps = strides.ToArray();
        long count = CountOf(own, elementBytes, nameof(lengths));
        Int128 extent = count == 0 ? 0 : 1;
        for (int i = 0; i < own.Length; i++)
        {
            if (steps[i] < 0) throw new ArgumentException($"Stride {i} is {steps[i]}; expected 0 or more.", nameof(strides));
            if (own[i] <= 1) steps[i] = 0;
            if (count > 0) extent += (Int128)(own[i] - 1) * steps[i];
        }

        if (extent > available)
            throw new ArgumentException($"[{string.Join(", ", own)}] with strides [{string.Join(", ", strides.ToArray())}] reaches over {extent} elements, but there are {available}.", nameof(strides));
        return new(own, steps, (long)extent, count);
    }

    /// <summary>A part of this one, and where its first element lies.</summary>
    /// <exception cref="ArgumentException">There is not one range for each dimension.</exception>
    /// <exception cref="ArgumentOutOfRangeException">A range lies outside.</exception>
    public ViewLayout Slice(ReadOnlySpan<NRange> ranges, out long start)
    {
        if (ranges.Length != _lengths.Length) throw new ArgumentException($"There are {ranges.Length} ranges for {this}; each dimension needs one.", nameof(ranges));
        nint[] lengths = new nint[_lengths.Length], strides = (nint[])_strides.Clone();
        start = 0;
        long extent = 1, count = 1;
        for (int i = 0; i < ranges.Length; i++)
        {
            (nint offset, lengths[i]) = ranges[i].GetOffsetAndLength(_lengths[i]);
            start += (long)offset * strides[i];
            if (lengths[i] <= 1) strides[i] = 0;
            extent += (long)Math.Max(0, lengths[i] - 1) * strides[i];
            count *= lengths[i];
        }

        if (count == 0) (extent, start) = (0, 0);
        return new(lengths, strides, extent, count);
    }

    /// <summary>The lengths as <c>[2, 5, 8, 64]</c>, for messages.</summary>
    public override string ToString() => $"[{string.Join(", ", _lengths)}]";

    private static long CountOf(nint[] lengths, int elementBytes, string name)
    {
        if (lengths.Length == 0) throw new ArgumentException("A tensor has 1 dimension or more.", name);
        Int128 count = 1;
        foreach (nint length in lengths)
        {
            if (length < 0) throw new ArgumentException($"[{string.Join(", ", lengths)}] has a negative length.", name);
            count = Int128.Min(count * length, long.MaxValue);
        }

        if (lengths.Contains(0)) return 0;
        if (count * elementBytes > nint.MaxValue) throw new ArgumentException($"[{string.Join(", ", lengths)}] of {elementBytes} bytes each does not fit the address space.", name);
        return (long)count;
    }

    private static nint[] ContiguousStrides(nint[] lengths)
    {
        nint[] strides = new nint[lengths.Length];
        nint step = 1;
        for (int i = lengths.Length - 1; i >= 0; i--)
        {
            strides[i] = lengths[i] > 1 ? step : 0;
            step *= lengths[i];
        }

        return strides;
    }
}
