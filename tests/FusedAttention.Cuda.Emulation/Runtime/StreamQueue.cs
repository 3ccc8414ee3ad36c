namespace FusedAttention.Cuda.Emulation.Runtime;

/// <summary>What is queued behind one handle, whoever has wrapped it.</summary>
internal sealed class StreamQueue
{
    private readonly Lock _gate = new();
    private readonly Lock _work = new();
    private readonly Queue<Action> _operations = new();
    private List<Action>? _recording;

    /// <summary>Whether what is queued goes into a graph instead.</summary>
    public bool IsCapturing
    {
        get { lock (_gate) return _recording is not null; }
    }

    public void Add(Action operation)
    {
        lock (_gate)
        {
            if (_recording is not null) _recording.Add(operation);
            else _operations.Enqueue(operation);
        }
    }

    /// <summary>Runs what is queued, in order, as long as a condition holds. A failure ends all that is queued: it may need what is missing now.</summary>
    public void RunWhile(Func<bool> condition)
    {
        lock (_work)
        {
            while (condition() && TryNext(out Action? operation))
            {
                try
                {
                    operation!();
                }
                catch
                {
                    lock (_gate) _operations.Clear();
                    throw;
                }
            }
        }
    }

    public void BeginCapture()
    {
        lock (_gate) _recording = [];
    }

    /// <summary>What was queued since <see cref="BeginCapture"/>: it has not run, and may be queued as often as anyone likes.</summary>
    public IReadOnlyList<Action> EndCapture()
    {
        lock (_gate)
        {
            List<Action> recording = _recording ?? throw new InvalidOperationException("Nothing is being captured.");
            _recording = null;
            return recording;
        }
    }

    private bool TryNext(out Action? operation)
    {
        lock (_gate) return _operations.TryDequeue(out operation);
    }
}
