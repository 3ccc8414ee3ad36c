using FusedAttention.Devices;

namespace FusedAttention.Cuda.Memory;

/// <summary>
/// What captured calls took of a stream's transient memory. A graph uses it whenever it runs, so it is not used again: it goes back with the stream. Calls share chunks.
/// </summary>
internal sealed class CaptureMemory(TransientPool pool) : ITransientMemory, IDisposable
{
    private readonly Lock _gate = new();
    private TransientPool.Rental? _rental;

    public MemoryPlace Take(long bytes)
    {
        lock (_gate)
        {
            _rental ??= pool.Rent();
            return _rental.Take(bytes);
        }
    }

    /// <summary>Gives it back to the pool; no graph that uses it runs any more.</summary>
    public void Dispose()
    {
        lock (_gate)
        {
            _rental?.Dispose();
            _rental = null;
        }
    }
}
