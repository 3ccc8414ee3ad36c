using System.Buffers;
using System.Runtime.CompilerServices;
using FusedAttention.Cpu;
using FusedAttention.Cpu.Rotary;
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
    private readonly RotaryTurns? _turns;
    private readonly int* _positions;
    private readonly int _firstPosition;
    private readonly float* _scales;

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

    /// <summary>Packed rows of 8-bit codes, with their scales <c>[tokens, heads]</c> where those lie beside them.</summary>
    public TokenRows(AttentionElementType type, void* first, float* scales, int heads, int dim)
        : this(type, first, heads, dim)
    {
        _scales = scales;
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

    private TokenRows(in TokenRows rows, RotaryTurns turns, int* positions, int firstPosition)
    {
        this = rows;
        _turns = turns;
        _positions = positions;
        _firstPosition = firstPosition;
    }

    /// <summary>The same rows, which are rotated on their way.</summary>
    /// <param name="turns">How; null for not at all.</param>
    /// <param name="positions">One a row; null where rows stand one after the other.</param>
    /// <param name="firstPosition">Of the first row, where <paramref name="positions"/> is null.</param>
    public TokenRows Rotated(RotaryTurns? turns, int* positions, int firstPosition) => turns is null ? this : new(this, turns, positions, firstPosition);

    /// <summary>Copies tokens to packed rows of elements of some type, in runs as long as the strides allow.</summary>
    public void CopyTo(AttentionElementType type, byte* destination, long firstToken, int tokens)
    {
        if (_type.IsEightBit())
        {
            Dequantize(type, destination, firstToken, tokens);
            return;
        }

        if (_turns is not null)
        {
            CopyRotated(_turns, type, destination, firstToken, tokens);
            return;
        }

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

    /// <summary>Quantizes tokens to packed rows of codes, each token and head by itself; codes of the same type are copied as they are.</summary>
    /// <param name="type">Of the codes.</param>
    /// <param name="codes">Receives them.</param>
    /// <param name="scales">Receives one scale a token and head, where scales lie beside the codes.</param>
    /// <param name="firstToken">The first token.</param>
    /// <param name="tokens">How many.</param>
    public void QuantizeTo(AttentionElementType type, byte* codes, float* scales, long firstToken, int tokens)
    {
        long rowBytes = type.RowBytes(_dim);
        if (_type == type)
        {
            Buffer.MemoryCopy(_first + (firstToken * _heads * rowBytes), codes, tokens * _heads * rowBytes, tokens * _heads * rowBytes);
            if (scales != null) Buffer.MemoryCopy(_scales + (firstToken * _heads), scales, (long)tokens * _heads * sizeof(float), (long)tokens * _heads * sizeof(float));
            return;
        }

        float[] rented = ArrayPool<float>.Shared.Rent(_heads * _dim);
        fixed (float* numbers = rented)
        {
            for (int token = 0; token < tokens; token++)
            {
                CopyTo(AttentionElementType.Float32, (byte*)numbers, firstToken + token, 1);
                for (int head = 0; head < _heads; head++, codes += rowBytes) Quantization.Row(type, numbers + ((long)head * _dim), _dim, codes, scales == null ? null : scales++);
            }
        }

        ArrayPool<float>.Shared.Return(rented);
    }

    private void Dequantize(AttentionElementType type, byte* destination, long firstToken, int tokens)
    {
        long rowBytes = _type.RowBytes(_dim);
        float[] rented = ArrayPool<float>.Shared.Rent(_dim);
        fixed (float* numbers = rented)
        {
            for (long row = firstToken * _heads; row < (firstToken + tokens) * _heads; row++, destination += (long)_dim * type.Size())
            {
                Quantization.ToFloats(_type, _first + (row * rowBytes), _scales == null ? 1 : _scales[row], numbers, _dim);
                ElementConversion.Convert(AttentionElementType.Float32, numbers, type, destination, _dim);
            }
        }

        ArrayPool<float>.Shared.Return(rented);
    }

    private void CopyRotated(RotaryTurns turns, AttentionElementType type, byte* destination, long firstToken, int tokens)
    {
        CpuKernels kernels = KernelSelector.Select(CpuInstructionSet.Auto);
        byte* source = _first + (firstToken * _tokenStride * _type.Size());
        for (int i = 0; i < tokens; i++, source += _tokenStride * _type.Size(), destination += (long)_heads * _dim * type.Size())
        {
            int position = _positions != null ? _positions[firstToken + i] : _firstPosition + (int)firstToken + i;
            if (_elementStride == 1) RotaryPass.Rotate(kernels, turns, position, _heads, new((nint)source, _type, _headStride), new((nint)destination, type, _dim));
            else RotateGathered(kernels, turns, position, source, type, destination);
        }
    }

    /// <summary>Pairs of elements that do not lie side by side: each head is gathered first.</summary>
    private void RotateGathered(CpuKernels kernels, RotaryTurns turns, int position, byte* source, AttentionElementType type, byte* destination)
    {
        int bytes = _dim * _type.Size();
        byte[] gathered = ArrayPool<byte>.Shared.Rent(bytes);
        fixed (byte* row = gathered)
        {
            for (int head = 0; head < _heads; head++, source += _headStride * _type.Size(), destination += _dim * type.Size())
            {
                if (_type.Size() == sizeof(uint)) GatherRow<uint>(source, _type, row);
                else GatherRow<ushort>(source, _type, row);
                RotaryPass.Rotate(kernels, turns, position, 1, new((nint)row, _type, _dim), new((nint)destination, type, _dim));
            }
        }

        ArrayPool<byte>.Shared.Return(gathered);
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
