using FusedAttention.Cuda.Ptx;

namespace FusedAttention.Cuda.Kernels;

/// <summary>What a block of threads works on: an item of the launch, for a key/value head.</summary>
/// <remarks>Made again where it is needed again after a long loop: loading twice costs less than registers that the loop misses.</remarks>
internal sealed class WorkPlace
{
    private readonly PtxKernel _k;
    private readonly CallReader _call;

    /// <param name="k">The kernel.</param>
    /// <param name="call">The call.</param>
    /// <param name="headsFirst">
    /// Whether the blocks of an item's heads come one after the other, along x: what they read lies side by side, as decoding wants it. Else items lie along x and heads along y: blocks of rows that read
    /// the same keys come one after the other.
    /// </param>
    public WorkPlace(PtxKernel k, CallReader call, bool headsFirst = false)
    {
        (_k, _call) = (k, call);
        I32 block = k.BlockX(), heads = call.KeyValueHeads;
        I32 item = headsFirst ? I32.Quotient(block, heads) : block;
        Item = call.Item(item);
        Head = (headsFirst ? block - (item * heads) : k.BlockY()).As("key_value_head");
        Sequence = call.Sequence(Item.Sequence);
    }

    public ItemReader Item { get; }

    /// <summary>The key/value head.</summary>
    public I32 Head { get; }

    public SequenceReader Sequence { get; }

    /// <summary>Which query and which query head a row is; beyond the item's last one, that.</summary>
    public (I32 Query, I32 Head) QueryOf(I32 index)
    {
        I32 group = _call.Group, row = I32.Min(index, Item.EndRow - 1);
        I32 query = I32.Quotient(row, group);
        return (query, I32.MultiplyAdd(Head, group, row - (query * group)));
    }

    /// <summary>A row by its number in the sequence; beyond the item's last one, that.</summary>
    public RowReader RowAt(I32 index) => new(_k, _call, Sequence, Head, I32.Min(index, Item.EndRow - 1), Item);
}
