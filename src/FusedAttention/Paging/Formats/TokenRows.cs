using System.Runtime.CompilerServices;
using FusedAttention.Tensors;

namespace FusedAttention.Paging.Formats;

/// <summary>Keys or values of some tokens, <c>[tokens, heads, dim]</c>, in the caller's memory with the caller's element type and strides (in elements).</summary>
internal readonly unsafe struct TokenRows
{
    /// <summary>Elements that are gathered at once where they do not lie side by side.</summary>
    private const int GatheredElements = 256;

    private readonly byte* _first;
    private readonly AttentionElementType _type;
    private readonly long _tokenStride;
    private readonly long _headStride;
    private readonly long _elementStride;
    private readonly int _heads;
    private readonly int _dim;

    /// <summary>Packed rows.</summary>
    public TokenRows(AttentionElementType type, void* first, int heads, int dim)
    {
        _first = (byte*)first;
        _type = type;
        _heads = heads;
        _dim = dim;
        _elementStride = 1;
        _headStride = dim;
        _tokenStride = (long)heads * dim;
    }

    /// <summary>Rows of a tensor of rank 3. A dimension of length 1 is never stepped over: it is given the stride that makes its rows count as packed.</summary>
    public TokenRows(AttentionElementType type, void* first, in TensorLayout layout)
    {
        _first = (byte*)first;
        _type = type;
        _heads = (int)layout.Lengths[1];
        _dim = (int)layout.Lengths[2];
        _elementStride = _dim > 1 ? layout.Strides[2] : 1;
        _headStride = _heads > 1 ? layout.Strides[1] : _dim;
        _tokenStride = layout.Lengths[0] > 1 ? layout.Strides[0] : (long)_heads * _dim;
    }

    /// <summary>Copies tokens to packed rows of elements of some type, in runs as long as the strides allow.</summary>
    public void CopyTo(AttentionElementType type, byte* destination, long firstToken, int tokens)
    {
        int size = _type.Size();
        byte* source = _first + (firstToken * _tokenStride * size);
        long width = (long)_heads * _dim;
        bool packedHeads = _elementStride == 1 && _headStride == _dim;
        if (packedHeads && _tokenStride == width)
        {
            ElementConversion.Convert(_type, source, type, destination, tokens * width);
            return;
        }

        for (int token = 0; token < tokens; token++, source += _tokenStride * size, destination += width * type.Size())
        {
            if (packedHeads) ElementConversion.Convert(_type, source, type, destination, width);
            else CopyHeads(source, type, destination);
        }
    }

    private void CopyHeads(byte* source, AttentionElementType type, byte* destination)
    {
        for (int head = 0; head < _heads; head++, source += _headStride * _type.Size(), destination += _dim * type.Size())
        {
            if (_elementStride == 1) ElementConversion.Convert(_type, source, type, destination, _dim);
            else if (_type.Size() == sizeof(uint)) GatherRow<uint>(source, type, destination);
            else GatherRow<ushort>(source, type, destination);
        }
    }

    /// <param name="source">The first element of a row.</param>
    /// <param name="type">The type to convert to.</param>
    /// <param name="destination">Where the row goes.</param>
    /// <typeparam name="TBits">An unsigned integer of the size of an element.</typeparam>
    [SkipLocalsInit]
    private void GatherRow<TBits>(byte* source, AttentionElementType type, byte* destination)
        where TBits : unmanaged
    {
        TBits* row = stackalloc TBits[GatheredElements];
        for (int done = 0; done < _dim; done += GatheredElements)
        {
            int count = Math.Min(GatheredElements, _dim - done);
            for (int i = 0; i < count; i++) row[i] = ((TBits*)source)[(done + i) * _elementStride];
            ElementConversion.Convert(_type, row, type, destination + ((long)done * type.Size()), count);
        }
    }
}
