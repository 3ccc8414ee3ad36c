using FusedAttention.Devices;

namespace FusedAttention.Cuda.Memory;

/// <summary>
/// Memory of tensors that nobody holds any more while streams may still be using it: <see cref="RetiredMemory"/> for any number of streams. Given back whenever somebody looks and all of them are done.
/// </summary>
internal sealed class RetiredTensors
{
    private readonly Lock _gate = new();
    private readonly List<(DeviceMemory Memory, StreamUse[] Uses)> _waiting = [];

    public int Count
    {
        get { lock (_gate) return _waiting.Count; }
    }

    /// <param name="memory">Taken over.</param>
    /// <param name="uses">By whom it was used; taken over. Entries without a stream count as nothing.</param>
    public void Add(DeviceMemory memory, StreamUse[] uses)
    {
        if (IsPending(uses))
        {
            lock (_gate) _waiting.Add((memory, uses));
        }
        else
        {
            memory.Dispose();
        }
    }

    public void Collect()
    {
        if (Count == 0) return;
        lock (_gate)
        {
            for (int i = _waiting.Count - 1; i >= 0; i--)
            {
                if (IsPending(_waiting[i].Uses)) continue;
                _waiting[i].Memory.Dispose();
                _waiting.RemoveAt(i);
            }
        }
    }

    private static bool IsPending(StreamUse[] uses)
    {
        foreach (StreamUse use in uses)
            if (use.Stream is not null && use.IsPending) return true;
        return false;
    }
}
