namespace FusedAttention.Devices;

/// <summary>Memory that nobody holds any more and the device may still be using. Given back whenever somebody looks and the work has ended.</summary>
internal sealed class RetiredMemory(IDeviceQueue queue)
{
    private readonly Lock _gate = new();
    private readonly List<(DeviceMemory Memory, long LastUse)> _waiting = [];

    public int Count
    {
        get { lock (_gate) return _waiting.Count; }
    }

    public void Add(DeviceMemory memory, long lastUse)
    {
        if (lastUse > queue.Completed)
        {
            lock (_gate) _waiting.Add((memory, lastUse));
        }
        else
        {
            memory.Dispose();
        }
    }

    public void Collect()
    {
        if (Count == 0) return;
        long completed = queue.Completed;
        lock (_gate)
        {
            for (int i = _waiting.Count - 1; i >= 0; i--)
            {
                if (_waiting[i].LastUse > completed) continue;
                _waiting[i].Memory.Dispose();
                _waiting.RemoveAt(i);
            }
        }
    }
}
