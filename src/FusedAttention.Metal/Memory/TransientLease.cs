using FusedAttention.Devices;

namespace FusedAttention.Metal.Memory;

/// <summary>Transient memory of one call: its own, or, in a batch, what all calls of the batch take from.</summary>
internal readonly ref struct TransientLease
{
    private readonly bool _isCalls;

    /// <param name="memory">To take from.</param>
    /// <param name="isCalls">Whether it goes back with the call.</param>
    public TransientLease(TransientPool.Rental memory, bool isCalls) => (Memory, _isCalls) = (memory, isCalls);

    public TransientPool.Rental Memory { get; }

    public void Dispose()
    {
        if (_isCalls) Memory.Dispose();
    }
}
