using FusedAttention.Comparison.Cases;
using FusedAttention.Comparison.Contenders;

namespace FusedAttention.Comparison.Torch;

/// <summary>torch's scaled_dot_product_attention on tensors over our own inputs, with the kernel that torch picks. Token-major inputs are views with heads and tokens exchanged.</summary>
internal sealed unsafe class TorchContender : Contender
{
    private const int Rank = 4;

    private readonly TorchLibrary _torch;
    private readonly AttentionCase _case;
    private readonly nint _query;
    private readonly nint _key;
    private readonly nint _value;
    private nint _output;

    public TorchContender(TorchLibrary torch, AttentionCase c, CaseInputs inputs, bool isHeadMajor, int threads)
    {
        // Its causal mask begins at the first key, ours ends at the last.
        if (c.IsCausal && c.Queries != c.Keys) throw new NotOfferedException("is_causal with fewer queries than keys");
        _torch = torch;
        _case = c;
        torch.SetThreads(threads);
        _query = Tensor(isHeadMajor ? inputs.QueryHeadMajor : inputs.Query, c.QueryHeads, c.Queries);
        _key = Tensor(isHeadMajor ? inputs.KeyHeadMajor : inputs.Key, c.KeyValueHeads, c.Keys);
        _value = Tensor(isHeadMajor ? inputs.ValueHeadMajor : inputs.Value, c.KeyValueHeads, c.Keys);

        nint Tensor(AlignedBuffer memory, int heads, int tokens)
        {
            long dim = c.Dim;
            ReadOnlySpan<long> strides = isHeadMajor ? [heads * tokens * dim, tokens * dim, dim, 1] : [heads * tokens * dim, dim, heads * dim, 1];
            return torch.CreateTensor(c.Type, memory.Pointer, [1, heads, tokens, dim], strides);
        }
    }

    /// <summary>Allocates its output, as every caller of torch's does.</summary>
    public override void Run()
    {
        _torch.Delete(_output);
        _output = 0;
        _output = _torch.ScaledDotProductAttention(_query, _key, _value, _case.IsCausal, _case.QueryHeads != _case.KeyValueHeads);
    }

    public override void CopyOutput(Span<float> output)
    {
        ReadOnlySpan<long> strides = _torch.Strides(_output, Rank);
        var data = (byte*)_torch.Data(_output);
        int dim = _case.Dim;
        for (int query = 0; query < _case.Queries; query++)
        {
            for (int head = 0; head < _case.QueryHeads; head++)
            {
                long source = (head * strides[1]) + (query * strides[2]);
                ElementRow.Load(_case.Type, data + (source * _case.ElementSize), output.Slice(((query * _case.QueryHeads) + head) * dim, dim));
            }
        }
    }

    protected override void Dispose(bool disposing)
    {
        _torch.Delete(_output);
        _torch.Delete(_query);
        _torch.Delete(_key);
        _torch.Delete(_value);
    }
}
