namespace FusedAttention.Devices;

/// <summary>Objects of calls that have ended, for the next ones: what they have grown to is kept, so that calls allocate nothing in steady state.</summary>
/// <param name="make">A new one.</param>
internal sealed class CallPool<T>(Func<T> make)
    where T : class
{
    /// <summary>More than ever plan at once: planning occupies a processor.</summary>
    private readonly T?[] _idle = new T?[Math.Max(4, 2 * Environment.ProcessorCount)];
    private readonly Lock _gate = new();
    private int _count;

    public T Rent()
    {
        lock (_gate)
        {
            if (_count > 0) return _idle[--_count]!;
        }

        return make();
    }

    public void Return(T call)
    {
        lock (_gate)
        {
            if (_count < _idle.Length) _idle[_count++] = call;
        }
    }
}
