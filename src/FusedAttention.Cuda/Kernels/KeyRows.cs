using FusedAttention.Cuda.Ptx;
using FusedAttention.Tensors;

namespace FusedAttention.Cuda.Kernels;

/// <summary>Keys, or values, of one head of one sequence: where a key's elements begin.</summary>
internal sealed class KeyRows
{
    private readonly PtxKernel _k;
    private readonly CallReader _call;
    private readonly SequenceReader _sequence;
    private readonly bool _isValue;
    private readonly Global _first;

    private KeyRows(PtxKernel k, CallReader call, SequenceReader sequence, I32 head, bool isValue)
    {
        (_k, _call, _sequence, _isValue) = (k, call, sequence, isValue);
        I64 start = isValue ? sequence.ValueStart : sequence.KeyStart;
        I64 headStride = isValue ? call.ValueHeadStride : call.KeyHeadStride;
        _first = new((isValue ? call.Value : call.Key).ToI64() + ((start + (head.Widen() * headStride)) * Bytes));
    }

    private long Bytes => _call.Traits.KeyValueType.Size();

    public static KeyRows Keys(PtxKernel k, CallReader call, SequenceReader sequence, I32 head) => new(k, call, sequence, head, isValue: false);

    public static KeyRows Values(PtxKernel k, CallReader call, SequenceReader sequence, I32 head) => new(k, call, sequence, head, isValue: true);

    /// <summary>Where the elements of a key begin.</summary>
    public Global Of(I32 key)
    {
        I64 tokenStride = _isValue ? _call.ValueTokenStride : _call.KeyTokenStride;
        int blockSize = _call.Traits.BlockSize;
        if (blockSize == 0) return _first + (key.Widen() * tokenStride * Bytes);
        I32 block = I32.Quotient(key, blockSize);
        I32 id = _call.BlockId(_sequence.BlockTableStart, block);
        I64 blockStride = _isValue ? _call.ValueBlockStride : _call.KeyBlockStride;
        return _first + (((id.Widen() * blockStride) + ((key - (block * blockSize)).Widen() * tokenStride)) * Bytes);
    }
}
