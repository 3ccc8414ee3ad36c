using FusedAttention.Cuda.Ptx;

namespace FusedAttention.Cuda.Kernels;

/// <summary>
/// Which rows of a bias the rows of an item have: as many as differ. A bias that all queries share is one row, or one a head; one that all heads share is a row a query. Which it is follows from strides, when the kernel
/// runs: so a bias of one query is not another kernel with other bits.
/// </summary>
/// <param name="call">The call.</param>
/// <param name="item">The item.</param>
internal sealed class WarpgroupBiasRows(CallReader call, ItemReader item)
{
    private readonly I32 _group = call.Group;
    private readonly Predicate _hasQueries = call.BiasQueryStride.IsNot(0);
    private readonly Predicate _hasHeads = call.BiasHeadStride.IsNot(0);

    /// <summary>How many there are.</summary>
    public I32 Count => Of(item.EndRow - item.FirstRow - 1) + 1;

    /// <summary>The row of the bias that a row has, both counted from the item's first.</summary>
    public I32 Of(I32 row)
    {
        I32 query = call.QueryOf(row), head = row - (query * _group);
        return I32.Select(_hasQueries, I32.Select(_hasHeads, row, query), I32.Select(_hasHeads, head, 0));
    }

    /// <summary>A row of the item that has a row of the bias.</summary>
    public I32 RowWith(I32 biasRow) => I32.Select(_hasHeads, biasRow, biasRow * _group);
}
