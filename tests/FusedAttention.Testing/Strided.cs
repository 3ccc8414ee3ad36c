using System.Numerics.Tensors;
using Xunit;

namespace FusedAttention.Testing;

/// <summary>How the dimensions of a tensor [batch, token, head, dim] lie in memory.</summary>
public enum TensorOrder
{
    /// <summary>Row-major, without gaps.</summary>
    Contiguous,

    /// <summary>[batch, head, token, dim] in memory.</summary>
    HeadMajor,

    /// <summary>[token, batch, head, dim] in memory.</summary>
    TokenFirst,

    /// <summary>Every token is followed by elements that do not belong to the tensor.</summary>
    PaddedTokens,

    /// <summary>Every head is followed by elements that do not belong to the tensor, and so is every batch row.</summary>
    PaddedHeads,

    /// <summary>One of three equal slices of a packed projection [batch, token, 3, head, dim].</summary>
    PackedSlice,
}

/// <summary>A tensor of rank 1 to 4 in its own memory, just large enough for its last element.</summary>
internal sealed unsafe class Strided<T> : IDisposable
    where T : unmanaged
{
    private readonly nint[] _lengths;
    private readonly nint[] _strides;
    private readonly TestMemory<T> _memory;

    private Strided(nint[] lengths, nint[] strides, Placement placement, byte fill)
    {
        _lengths = lengths;
        _strides = strides;
        Extent = lengths.Contains(0) ? 0 : 1;
        for (int i = 0; Extent > 0 && i < lengths.Length; i++) Extent += (lengths[i] - 1) * strides[i];
        _memory = new TestMemory<T>(Extent, placement, fill);
    }

    /// <summary>One past the offset of the last element.</summary>
    public nint Extent { get; }

    public T* Pointer => _memory.Pointer;

    public Span<T> Span => _memory.Span;

    public AttentionStrides AttentionStrides => new(_strides[0], _strides[1], _strides[2]);

    public ref T this[long a, long b, long c, long d]
        => ref _memory.Pointer[(a * _strides[0]) + (b * _strides[1]) + (c * _strides[2]) + (d * _strides[3])];

    /// <summary>A tensor [batch, token, head, dim].</summary>
    public static Strided<T> Create(TensorOrder order, int batch, int tokens, int heads, int dim, Placement placement, byte fill)
    {
        nint[] lengths = [batch, tokens, heads, dim];
        // From innermost to outermost: which dimension, and how many foreign elements follow each of its rows.
        (int Dimension, nint Gap)[] nesting = order switch
        {
            TensorOrder.HeadMajor => [(3, 0), (1, 0), (2, 0), (0, 0)],
            TensorOrder.TokenFirst => [(3, 0), (2, 0), (0, 0), (1, 0)],
            TensorOrder.PaddedTokens => [(3, 0), (2, 5), (1, 0), (0, 0)],
            TensorOrder.PaddedHeads => [(3, 3), (2, 0), (1, 7), (0, 0)],
            TensorOrder.PackedSlice => [(3, 0), (2, 2 * heads * dim), (1, 0), (0, 0)],
            _ => [(3, 0), (2, 0), (1, 0), (0, 0)],
        };
        var strides = new nint[4];
        nint stride = 1;
        foreach ((int dimension, nint gap) in nesting)
        {
            strides[dimension] = stride;
            stride = (stride * lengths[dimension]) + gap;
        }

        return new(lengths, strides, placement, fill);
    }

    /// <summary>A tensor [a, b, c, d] whose rows are <paramref name="rowGap"/> elements apart.</summary>
    public static Strided<T> CreateRows(int a, int b, int c, int d, int rowGap, Placement placement, byte fill)
    {
        nint row = d + rowGap;
        return new([a, b, c, d], [b * c * row, c * row, row, 1], placement, fill);
    }

    /// <summary>The tensor as a span of its last <paramref name="rank"/> dimensions; the ones left out have length 1.</summary>
    public TensorSpan<T> AsTensorSpan(int rank = 4)
    {
        ReadOnlySpan<nint> lengths = _lengths.AsSpan(4 - rank);
        if (Extent == 0) return new TensorSpan<T>(_memory.Pointer, 0, lengths);
        Span<nint> strides = stackalloc nint[rank];
        for (int i = 0; i < rank; i++) strides[i] = lengths[i] == 1 ? 0 : _strides[4 - rank + i];
        return new TensorSpan<T>(_memory.Pointer, Extent, lengths, strides);
    }

    public ReadOnlyTensorSpan<T> AsReadOnlyTensorSpan(int rank = 4) => AsTensorSpan(rank);

    /// <summary>Fails if anything beside the buffer, or between the tensor's own elements, was written.</summary>
    public void AssertOnlyElementsWritten(string name)
    {
        _memory.AssertMarginsUntouched(name);
        if (Extent == 0) return;
        var isElement = new bool[Extent];
        for (nint a = 0; a < _lengths[0]; a++)
        for (nint b = 0; b < _lengths[1]; b++)
        for (nint c = 0; c < _lengths[2]; c++)
        {
            nint row = (a * _strides[0]) + (b * _strides[1]) + (c * _strides[2]);
            isElement.AsSpan(checked((int)row), checked((int)_lengths[3])).Fill(true);
        }

        for (nint i = 0; i < Extent; i++)
        {
            if (isElement[i]) continue;
            if (new ReadOnlySpan<byte>(_memory.Pointer + i, sizeof(T)).ContainsAnyExcept(TestMemory<T>.Sentinel))
            {
                Assert.Fail($"{name}: offset {i} lies between two rows of the tensor and was written.");
            }
        }
    }

    public void Dispose() => _memory.Dispose();
}
