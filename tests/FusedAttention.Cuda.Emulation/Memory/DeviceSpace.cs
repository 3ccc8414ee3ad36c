namespace FusedAttention.Cuda.Emulation.Memory;

/// <summary>
/// The addresses of the emulated device. None is used twice, and there is a gap behind each allocation: so an address beyond the end of one, or of one that was freed, is no other's. Reading is free of locks.
/// </summary>
internal sealed class DeviceSpace : IDisposable
{
    /// <summary>Bytes between two allocations, at least.</summary>
    private const ulong Gap = 4096;

    /// <summary>Of freed allocations, whose memory is kept so that a kernel that runs meanwhile does not touch the processor's own.</summary>
    private const long MostQuarantine = 64 << 20;

    private readonly Lock _gate = new();
    private readonly Queue<Allocation> _quarantine = new();
    private readonly List<Allocation> _forgotten = [];
    private Allocation[] _living = [];
    private ulong _next = 0x0000_2000_0000_0000;
    private long _quarantined;

    /// <summary>Of all that live.</summary>
    public long LivingBytes { get; private set; }

    public int Living => _living.Length;

    public Allocation Allocate(long bytes)
    {
        lock (_gate)
        {
            var allocation = new Allocation(_next, bytes);
            _next = (_next + (ulong)bytes + Gap + 255) & ~255UL;
            _living = [.. _living, allocation];
            LivingBytes += bytes;
            return allocation;
        }
    }

    public void Free(Allocation allocation)
    {
        lock (_gate)
        {
            if (allocation.IsFreed) throw new CudaEmulationException($"Memory is given back twice: {allocation}.");
            allocation.IsFreed = true;
            _living = [.. _living.Where(other => other != allocation)];
            LivingBytes -= allocation.Bytes;
            _quarantine.Enqueue(allocation);
            _quarantined += allocation.Bytes;
            while (_quarantined > MostQuarantine && _quarantine.TryDequeue(out Allocation? oldest))
            {
                _quarantined -= oldest.Bytes;
                oldest.Dispose();
                _forgotten.Add(oldest);
            }
        }
    }

    /// <summary>The allocation of an address, or null.</summary>
    public Allocation? Find(ulong address)
    {
        Allocation[] living = Volatile.Read(ref _living);
        int low = 0, high = living.Length - 1;
        while (low <= high)
        {
            int middle = (low + high) >>> 1;
            Allocation allocation = living[middle];
            if (address < allocation.Start) high = middle - 1;
            else if (address - allocation.Start < (ulong)allocation.Bytes) return allocation;
            else low = middle + 1;
        }

        return null;
    }

    /// <summary>The allocation that has so many bytes at an address.</summary>
    /// <exception cref="CudaEmulationException">There is none.</exception>
    public Allocation Require(ulong address, long bytes, string what)
    {
        Allocation? allocation = Find(address);
        if (allocation is null || address - allocation.Start + (ulong)bytes > (ulong)allocation.Bytes) throw new CudaEmulationException($"{what} of {bytes} bytes at 0x{address:x}: {Describe(address)}");
        return allocation;
    }

    /// <summary>What there is at an address, or near it.</summary>
    public string Describe(ulong address)
    {
        lock (_gate)
        {
            if (Find(address) is { } own) return $"it begins {address - own.Start} bytes into {own}.";
            Allocation? freed = _quarantine.Concat(_forgotten).FirstOrDefault(allocation => address - allocation.Start < (ulong)allocation.Bytes);
            if (freed is not null) return $"that is {address - freed.Start} bytes into memory that was freed, {freed}.";
            Allocation? before = _living.LastOrDefault(allocation => allocation.Start <= address);
            Allocation? behind = _living.FirstOrDefault(allocation => allocation.Start > address);
            string text = "no allocation has it.";
            if (before is not null) text += $" It is {address - before.Start - (ulong)before.Bytes} bytes behind the end of {before}.";
            if (behind is not null) text += $" It is {behind.Start - address} bytes before {behind}.";
            return text;
        }
    }

    public void Dispose()
    {
        lock (_gate)
        {
            foreach (Allocation allocation in _living.Concat(_quarantine)) allocation.Dispose();
            _living = [];
            _quarantine.Clear();
        }
    }
}
