namespace FusedAttention;

/// <summary>
/// Which sequences a paged call works on, with block tables that lie on the device: for engines whose own kernels write them, or that change them between the runs of a graph. Lengths, by which the work is
/// divided, are the host's. Key <c>j</c> of sequence <c>s</c> is slot <c>j % blockSize</c> of block <c>BlockTables[s, j / blockSize]</c>.
/// </summary>
/// <remarks>
/// The device checks the entries when it runs the call, in the order of the stream, as far as a query may see their keys. A number that no block has is not followed: it is reported, by a
/// <see cref="CudaException"/> from whatever waits for the device next, and what the call has written for that sequence is undefined then.
/// </remarks>
public readonly ref struct CudaPagedSequences
{
    /// <summary>Names the arrays and the tensor. The arrays are read during the call only.</summary>
    /// <param name="cumulativeQueryLengths">Sequences + 1 ascending numbers from 0 to the number of queries: sequence s owns query rows [s] to [s + 1].</param>
    /// <param name="contextLengths">Keys of each sequence, its new query tokens' own keys included; 0 is allowed.</param>
    /// <param name="blockTables"><c>[sequences, max blocks per sequence]</c> physical block ids; entries past a sequence's last needed block are not read. Rows may be apart.</param>
    public CudaPagedSequences(ReadOnlySpan<int> cumulativeQueryLengths, ReadOnlySpan<int> contextLengths, CudaTensor<int> blockTables)
    {
        CumulativeQueryLengths = cumulativeQueryLengths;
        ContextLengths = contextLengths;
        BlockTables = blockTables;
    }

    /// <summary>Sequences + 1 ascending numbers: sequence s owns query rows [s] to [s + 1].</summary>
    public ReadOnlySpan<int> CumulativeQueryLengths { get; }

    /// <summary>Keys of each sequence, its new query tokens' own keys included.</summary>
    public ReadOnlySpan<int> ContextLengths { get; }

    /// <summary>Physical block ids, <c>[sequences, max blocks per sequence]</c>.</summary>
    public CudaTensor<int> BlockTables { get; }
}
