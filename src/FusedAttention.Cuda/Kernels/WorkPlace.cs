using FusedAttention.Cuda.Ptx;

namespace FusedAttention.Cuda.Kernels;

/// <summary>What a block of threads works on: an item of the launch, along x, for a key/value head, along y.</summary>
/// <remarks>Made again where it is needed again after a long loop: loading twice costs less than registers that the loop misses.</remarks>
internal sealed class WorkPlace
{
    private readonly PtxKernel _k;
    private readonly CallReader _call;

    public WorkPlace(PtxKernel k, CallReader call)
    {
        (_k, _call) = (k, call);
        Item = call.Item(k.BlockX());
        Head = k.BlockY().As("head");
        Sequence = call.Sequence(Item.Sequence);
    }

    public ItemReader Item { get; }

    /// <summary>The key/value head.</summary>
    public I32 Head { get; }

    public SequenceReader Sequence { get; }

    /// <summary>A row by its number in the sequence; beyond the item's last one, that.</summary>
    public RowReader RowAt(I32 index) => new(_k, _call, Sequence, Head, I32.Min(index, Item.EndRow - 1), Item);
}
