using System.Diagnostics.CodeAnalysis;
using System.Numerics.Tensors;
using System.Runtime.CompilerServices;

namespace FusedAttention.Tensors;

/// <summary>The rank, lengths and strides (in elements) of a tensor of at most <see cref="MaxRank"/> dimensions, apart from its element type and memory.</summary>
internal struct TensorLayout
{
    public const int MaxRank = 5;

    /// <summary>Where an extent stops counting: hostile strides must not wrap around. 2^59 elements of 4 bytes still fit 64 bits.</summary>
    private const long Furthest = 1L << 59;

    private Sizes _lengths;
    private Sizes _strides;

    public int Rank { get; private set; }

    /// <summary>Leading dimensions that <see cref="PaddedTo"/> put in front: the caller does not know them, so messages leave them out.</summary>
    public int Padding { get; private set; }

    [UnscopedRef]
    public readonly ReadOnlySpan<long> Lengths => ((ReadOnlySpan<long>)_lengths)[..Rank];

    /// <summary>Strides; 0 for a dimension of length 1 or 0, whatever its owner says: it is never stepped over.</summary>
    [UnscopedRef]
    public readonly ReadOnlySpan<long> Strides => ((ReadOnlySpan<long>)_strides)[..Rank];

    public readonly bool IsAbsent => Rank == 0;

    public readonly bool IsEmpty => Lengths.Contains(0);

    /// <summary>One past the largest offset that an element has; 0 when there is no element.</summary>
    public readonly long Extent
    {
        get
        {
            if (Rank == 0 || IsEmpty) return 0;
            Int128 extent = 1;
            for (int i = 0; i < Rank; i++) extent += (Int128)(_lengths[i] - 1) * _strides[i];
            return (long)Int128.Min(extent, Furthest);
        }
    }

    public static TensorLayout Of<T>(scoped in ReadOnlyTensorSpan<T> tensor) => Of(tensor.Lengths, tensor.Strides);

    public static TensorLayout Of<T>(scoped in TensorSpan<T> tensor) => Of(tensor.Lengths, tensor.Strides);

    public static TensorLayout Of(ReadOnlySpan<nint> lengths, ReadOnlySpan<nint> strides)
    {
        var layout = new TensorLayout { Rank = lengths.Length };
        if (lengths.Length > MaxRank) return layout with { Rank = MaxRank + 1 };
        for (int i = 0; i < lengths.Length; i++)
        {
            layout._lengths[i] = lengths[i];
            layout._strides[i] = lengths[i] > 1 ? strides[i] : 0;
        }

        return layout;
    }

    /// <summary>A tensor [batch, token, head, dim] whose last dimension is contiguous; strides in elements.</summary>
    public static TensorLayout Of(long batch, long tokens, long heads, long dim, long batchStride, long tokenStride, long headStride)
    {
        var layout = new TensorLayout { Rank = 4 };
        layout.Set(0, batch, batchStride);
        layout.Set(1, tokens, tokenStride);
        layout.Set(2, heads, headStride);
        layout.Set(3, dim, 1);
        return layout;
    }

    /// <summary>The layout as a tensor of <paramref name="rank"/> dimensions, with leading dimensions of length 1 put in front.</summary>
    public readonly TensorLayout PaddedTo(int rank)
    {
        int missing = rank - Rank;
        var layout = new TensorLayout { Rank = rank, Padding = missing };
        for (int i = 0; i < rank; i++)
        {
            if (i < missing) layout.Set(i, 1, 0);
            else layout.Set(i, _lengths[i - missing], _strides[i - missing]);
        }

        return layout;
    }

    /// <summary>The layout of element 0 of the first dimension.</summary>
    public readonly TensorLayout WithoutFirst()
    {
        var layout = new TensorLayout { Rank = Rank - 1 };
        for (int i = 1; i < Rank; i++) layout.Set(i - 1, _lengths[i], _strides[i]);
        return layout;
    }

    /// <summary>The lengths as <c>[2, 5, 8, 64]</c>, for messages.</summary>
    public override readonly string ToString() => Rank switch
    {
        _ when Rank == Padding => "[]",
        > MaxRank => $"a tensor of more than {MaxRank} dimensions",
        _ => $"[{string.Join(", ", Lengths[Padding..].ToArray())}]",
    };

    private void Set(int dimension, long length, long stride)
    {
        _lengths[dimension] = length;
        _strides[dimension] = length > 1 ? stride : 0;
    }

    [InlineArray(MaxRank)]
    private struct Sizes
    {
        private long _first;
    }
}
