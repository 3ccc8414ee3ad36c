using FusedAttention.Cuda.Ptx;
using FusedAttention.Tensors;

namespace FusedAttention.Cuda.Kernels;

/// <summary>Where the rows of a sequence's queries, or outputs, begin: what all of them share is in registers.</summary>
internal sealed class RowPlaces
{
    private readonly Global _first;
    private readonly I64 _tokenStride;
    private readonly I64 _headStride;

    private RowPlaces(CallReader call, Global tensor, I64 start, I64 tokenStride, I64 headStride)
    {
        long bytes = call.Traits.QueryType.Size();
        _first = tensor + (start * bytes);
        (_tokenStride, _headStride) = (tokenStride * bytes, headStride * bytes);
    }

    public static RowPlaces Queries(CallReader call, SequenceReader sequence) => new(call, call.Query, sequence.QueryStart, call.QueryTokenStride, call.QueryHeadStride);

    public static RowPlaces Outputs(CallReader call, SequenceReader sequence) => new(call, call.Output, sequence.OutputStart, call.OutputTokenStride, call.OutputHeadStride);

    /// <summary>Where a row begins.</summary>
    public Global Of(I32 query, I32 head) => _first + ((query.Widen() * _tokenStride) + (head.Widen() * _headStride));
}
