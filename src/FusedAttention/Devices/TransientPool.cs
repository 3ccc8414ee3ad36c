using System.Numerics;

namespace FusedAttention.Devices;

/// <summary>
/// Memory for the tables and partial results of calls, used again when the submission that had it has ended: in steady state nothing is allocated, on the device or the heap.
/// </summary>
/// <remarks>
/// Memory comes in chunks, of which a call takes what it needs from the front. Chunks under way: at most as many calls as the queue lets run, so a decode loop settles at a few of
/// the smallest size.
/// </remarks>
internal sealed class TransientPool(IDeviceQueue queue)
{
    /// <summary>What <see cref="ITransientMemory"/> promises of offsets.</summary>
    private const long Alignment = 256;

    /// <summary>Tables of a decode step of 64 sequences take 20 KB, its partial results some hundreds: one chunk.</summary>
    private const long SmallestChunk = 1 << 20;

    /// <summary>Above this, sizes are rounded up to whole steps of it instead of powers of two, which would waste up to half.</summary>
    private const long Step = 16 << 20;

    /// <summary>Idle memory beyond this is given back to the device, the largest chunks first.</summary>
    private const long MostIdleBytes = 256 << 20;

    private readonly Lock _gate = new();
    private readonly List<Chunk> _idle = [];
    private readonly List<Chunk> _busy = [];
    private readonly Stack<Rental> _rentals = new();
    private bool _isClosed;

    /// <summary>Chunks that exist, for tests.</summary>
    public int Chunks
    {
        get { lock (_gate) return _idle.Count + _busy.Count; }
    }

    /// <summary>What is to be disposed when the call is queued, once.</summary>
    public Rental Rent()
    {
        lock (_gate) return _rentals.TryPop(out Rental? rental) ? rental : new(this);
    }

    /// <summary>Gives all memory back; nothing uses it any more.</summary>
    public void Close()
    {
        lock (_gate)
        {
            _isClosed = true;
            foreach (Chunk chunk in _idle) chunk.Memory.Dispose();
            foreach (Chunk chunk in _busy) chunk.Memory.Dispose();
            _idle.Clear();
            _busy.Clear();
        }
    }

    private Chunk Take(long bytes)
    {
        long completed = queue.Completed;
        lock (_gate)
        {
            for (int i = _busy.Count - 1; i >= 0; i--)
            {
                if (_busy[i].LastUse > completed) continue;
                _idle.Add(_busy[i]);
                _busy.RemoveAt(i);
            }

            // The smallest that fits, and of equal ones the last used.
            Chunk? best = null;
            foreach (Chunk chunk in _idle)
                if (chunk.Memory.Bytes >= bytes && (best is null || chunk.Memory.Bytes <= best.Memory.Bytes)) best = chunk;
            if (best is not null)
            {
                _idle.Remove(best);
                best.Used = 0;
                best.LastUse = 0;
                return best;
            }
        }

        return new(queue.Allocate(Math.Max(SmallestChunk, bytes <= Step ? (long)BitOperations.RoundUpToPowerOf2((ulong)bytes) : (bytes + Step - 1) / Step * Step)));
    }

    /// <summary>Takes a rental back, with its chunks.</summary>
    private void Return(Rental rental, List<Chunk> chunks, long lastUse)
    {
        lock (_gate)
        {
            foreach (Chunk chunk in chunks)
            {
                chunk.LastUse = lastUse;
                if (_isClosed) chunk.Memory.Dispose();
                else _busy.Add(chunk);
            }

            chunks.Clear();
            _rentals.Push(rental);

            // What is busy becomes idle soon, so both count; only the idle can be let go.
            long bytes = BytesOf(_idle) + BytesOf(_busy);
            while (bytes > MostIdleBytes && Largest(_idle) is { } largest)
            {
                _idle.Remove(largest);
                bytes -= largest.Memory.Bytes;
                largest.Memory.Dispose();
            }
        }
    }

    private static long BytesOf(List<Chunk> chunks)
    {
        long bytes = 0;
        foreach (Chunk chunk in chunks) bytes += chunk.Memory.Bytes;
        return bytes;
    }

    private static Chunk? Largest(List<Chunk> chunks)
    {
        Chunk? largest = null;
        foreach (Chunk chunk in chunks)
            if (largest is null || chunk.Memory.Bytes > largest.Memory.Bytes) largest = chunk;
        return largest;
    }

    /// <summary>What one call has taken. Disposing gives it back, to be used again after the last submission that was named.</summary>
    public sealed class Rental : ITransientMemory, IDisposable
    {
        private readonly TransientPool _pool;
        private readonly List<Chunk> _chunks = [];
        private long _lastUse;

        internal Rental(TransientPool pool) => _pool = pool;

        public MemoryPlace Take(long bytes)
        {
            ArgumentOutOfRangeException.ThrowIfNegative(bytes);
            long taken = (Math.Max(1, bytes) + Alignment - 1) / Alignment * Alignment;
            if (_chunks.Count == 0 || _chunks[^1].Memory.Bytes - _chunks[^1].Used < taken) _chunks.Add(_pool.Take(taken));
            Chunk chunk = _chunks[^1];
            var place = new MemoryPlace(chunk.Memory, chunk.Used);
            chunk.Used += taken;
            return place;
        }

        /// <summary>The last submission that uses what was taken; 0 for none.</summary>
        public long LastUse => _lastUse;

        /// <summary>Says that a submission uses all that was taken.</summary>
        public void Use(long submission) => _lastUse = submission;

        public void Dispose()
        {
            long lastUse = _lastUse;
            _lastUse = 0;
            _pool.Return(this, _chunks, lastUse);
        }
    }

    private sealed class Chunk(DeviceMemory memory)
    {
        public DeviceMemory Memory { get; } = memory;

        public long Used { get; set; }

        public long LastUse { get; set; }
    }
}
