using FusedAttention.Cuda.Ptx;

namespace FusedAttention.Cuda.Kernels;

/// <summary>What a block of threads works on: an item of the launch, for a key/value head.</summary>
/// <remarks>Made again where it is needed again after a long loop: loading twice costs less than registers that the loop misses.</remarks>
internal sealed class WorkPlace
{
    private readonly PtxKernel _k;
    private readonly CallReader _call;

    /// <summary>One block a place: items lie along x and heads along y, so that blocks of rows that read the same keys come one after the other.</summary>
    public WorkPlace(PtxKernel k, CallReader call)
        : this(k, call, k.BlockX(), k.BlockY())
    {
    }

    /// <summary>What has been looked up already.</summary>
    public WorkPlace(PtxKernel k, CallReader call, ItemReader item, I32 head, SequenceReader sequence) => (_k, _call, Item, Head, Sequence) = (k, call, item, head, sequence);

    private WorkPlace(PtxKernel k, CallReader call, I32 item, I32 head)
    {
        (_k, _call) = (k, call);
        Item = call.Item(item);
        Head = head.As("key_value_head");
        Sequence = call.Sequence(Item.Sequence);
    }

    /// <summary>A place by its number, heads of an item one after the other: what they read lies side by side.</summary>
    public static WorkPlace Of(PtxKernel k, CallReader call, I32 work)
    {
        I32 heads = call.KeyValueHeads, item = I32.Quotient(work, heads);
        return new(k, call, item, work - (item * heads));
    }

    public ItemReader Item { get; }

    /// <summary>The key/value head.</summary>
    public I32 Head { get; }

    public SequenceReader Sequence { get; }

    /// <summary>Which query and which query head a row is; beyond the item's last one, that.</summary>
    public (I32 Query, I32 Head) QueryOf(I32 index)
    {
        I32 group = _call.Group, row = I32.Min(index, Item.EndRow - 1);
        I32 query = _call.QueryOf(row);
        return (query, I32.MultiplyAdd(Head, group, row - (query * group)));
    }

    /// <summary>A row by its number in the sequence; beyond the item's last one, that.</summary>
    public RowReader RowAt(I32 index) => RowReader.Of(_k, _call, Sequence, Head, I32.Min(index, Item.EndRow - 1), Item);
}
