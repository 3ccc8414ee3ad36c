using FusedAttention.Metal.Launching;

namespace FusedAttention.Metal.Memory;

/// <summary>Memory that nobody holds any more and the GPU may still be using. Given back whenever somebody looks and the work has ended.</summary>
internal sealed class RetiredMemory(IMetalRuntime runtime)
{
    private readonly Lock _gate = new();
    private readonly List<(DeviceMemory Memory, long LastUse)> _waiting = [];

    public int Count
    {
        get { lock (_gate) return _waiting.Count; }
    }

    public void Add(DeviceMemory memory, long lastUse)
    {
        if (lastUse > runtime.Completed)
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
        long completed = runtime.Completed;
        lock (_gate)
        {
            foreach ((DeviceMemory memory, long lastUse) in _waiting)
                if (lastUse <= completed) memory.Dispose();
            _waiting.RemoveAll(entry => entry.LastUse <= completed);
        }
    }
}
