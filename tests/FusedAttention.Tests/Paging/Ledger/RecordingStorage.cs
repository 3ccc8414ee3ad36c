using FusedAttention.Paging.Ledger;

namespace FusedAttention.Tests.Paging.Ledger;

/// <summary>Storage without memory: it lists the copies that the ledger asks for, and refuses some.</summary>
internal sealed class RecordingStorage : IBlockStorage
{
    public List<(int From, int To, int Slots)> Copies { get; } = [];

    /// <summary>The copy, counted from 0, that fails.</summary>
    public int FailAt { get; set; } = -1;

    public long Bytes => 0;

    public void CopyBlock(int from, int to, int slots)
    {
        if (Copies.Count == FailAt) throw new IOException("no copy");
        Copies.Add((from, to, slots));
    }

    public void Dispose()
    {
    }
}
