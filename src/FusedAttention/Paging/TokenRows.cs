using FusedAttention.Tensors;

namespace FusedAttention.Paging;

/// <summary>Keys or values of some tokens, <c>[tokens, heads, dim]</c>, in the caller's memory with the caller's strides (in elements).</summary>
internal readonly unsafe struct TokenRows<T>
    where T : unmanaged
{
    private readonly T* _first;
    private readonly long _tokenStride;
    private readonly long _headStride;
    private readonly long _elementStride;
    private readonly int _heads;
    private readonly int _dim;

    /// <summary>Packed rows.</summary>
    public TokenRows(T* first, int heads, int dim)
    {
        _first = first;
        _heads = heads;
        _dim = dim;
        _elementStride = 1;
        _headStride = dim;
        _tokenStride = (long)heads * dim;
    }

    /// <summary>Rows of a tensor of rank 3. A dimension of length 1 is never stepped over: it is given the stride that makes its rows count as packed.</summary>
    public TokenRows(T* first, in TensorLayout layout)
    {
        _first = first;
        _heads = (int)layout.Lengths[1];
        _dim = (int)layout.Lengths[2];
        _elementStride = _dim > 1 ? layout.Strides[2] : 1;
        _headStride = _heads > 1 ? layout.Strides[1] : _dim;
        _tokenStride = layout.Lengths[0] > 1 ? layout.Strides[0] : (long)_heads * _dim;
    }

    /// <summary>Copies tokens to packed rows, in runs as long as the strides allow.</summary>
    public void CopyTo(T* destination, long firstToken, int tokens)
    {
        T* source = _first + (firstToken * _tokenStride);
        long width = (long)_heads * _dim;
        bool packedHeads = _elementStride == 1 && _headStride == _dim;
        if (packedHeads && _tokenStride == width)
        {
            Copy(source, destination, tokens * width);
            return;
        }

        for (int token = 0; token < tokens; token++, source += _tokenStride, destination += width)
        {
            if (packedHeads) Copy(source, destination, width);
            else CopyHeads(source, destination);
        }
    }

    private static void Copy(T* source, T* destination, long elements) =>
        Buffer.MemoryCopy(source, destination, elements * sizeof(T), elements * sizeof(T));

    private void CopyHeads(T* source, T* destination)
    {
        for (int head = 0; head < _heads; head++, source += _headStride, destination += _dim)
        {
            if (_elementStride == 1) Copy(source, destination, _dim);
            else for (int i = 0; i < _dim; i++) destination[i] = source[i * _elementStride];
        }
    }
}
