using FusedAttention.Cuda.Kernels;
using FusedAttention.Cuda.Launching;

namespace FusedAttention.Cuda.Memory;

/// <summary>What a stream's kernels found wrong in block tables that the host has not read: a few bytes of the host that kernels write, and whoever waits for the stream looks at.</summary>
internal sealed unsafe class TableFaults(CudaMemory pinned) : IDisposable
{
    private readonly Lock _gate = new();
    private bool _isDisposed;

    /// <summary>Made with memory that is pinned; cleared.</summary>
    public static TableFaults Of(ICudaRuntime runtime)
    {
        CudaMemory pinned = runtime.AllocatePinned(sizeof(TableFault));
        *(TableFault*)pinned.Pointer = default;
        return new(pinned);
    }

    /// <summary>Where the device sees it.</summary>
    public ulong Address => pinned.Address;

    /// <summary>Throws what was met since the last look, once.</summary>
    /// <exception cref="CudaException">A block table on the device had a number that no block has.</exception>
    public void ThrowIfAny()
    {
        TableFault fault;
        lock (_gate)
        {
            // Whoever has waited for another stream may look when that is gone.
            if (_isDisposed) return;
            var found = (TableFault*)pinned.Pointer;
            if (Volatile.Read(ref found->Blocks) == 0) return;
            fault = *found;
            *found = default;
        }

        throw new CudaException(
            $"Block table of sequence {fault.Sequence} on the device, entry {fault.Entry}, was block {fault.Id}; the cache has blocks 0 to {fault.Blocks - 1}. " +
            "The block was not read, and what the call wrote for that sequence is undefined.");
    }

    public void Dispose()
    {
        lock (_gate)
        {
            if (_isDisposed) return;
            _isDisposed = true;
            pinned.Dispose();
        }
    }
}
