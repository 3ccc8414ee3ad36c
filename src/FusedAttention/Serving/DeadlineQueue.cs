namespace FusedAttention.Serving;

/// <summary>Requests whose time is limited, the next to run out first. Those that end before are left in and forgotten when they are half of all.</summary>
internal sealed class DeadlineQueue(TimeProvider clock)
{
    private const int FewestToClean = 64;

    private readonly PriorityQueue<GenerationRequest, long> _requests = new();
    private int _ended;

    /// <summary>How long it is until the first runs out; null if none does. Never below zero.</summary>
    public TimeSpan? Remaining
    {
        get
        {
            if (!_requests.TryPeek(out _, out long deadline)) return null;
            TimeSpan left = clock.GetElapsedTime(clock.GetTimestamp(), deadline);
            return left > TimeSpan.Zero ? left : TimeSpan.Zero;
        }
    }

    public void Add(GenerationRequest request)
    {
        if (request.Options.TimeLimit is not { } limit) return;
        double ticks = limit.TotalSeconds * clock.TimestampFrequency;
        long now = clock.GetTimestamp();
        _requests.Enqueue(request, ticks < long.MaxValue - now ? now + (long)ticks : long.MaxValue);
    }

    /// <summary>Notes that a request has ended.</summary>
    public void CountOut(GenerationRequest request)
    {
        if (request.Options.TimeLimit is null || ++_ended < FewestToClean || 2 * _ended < _requests.Count) return;
        (GenerationRequest, long)[] left = [.. _requests.UnorderedItems.Where(static item => !item.Element.HasEnded)];
        _requests.Clear();
        _requests.EnqueueRange(left);
        _ended = 0;
    }

    /// <summary>Takes out a request whose time is over.</summary>
    public bool TryTakeExpired(out GenerationRequest request)
    {
        while (_requests.TryPeek(out request!, out long deadline))
        {
            if (request.HasEnded) _ended--;
            else if (deadline > clock.GetTimestamp()) return false;
            _requests.Dequeue();
            if (!request.HasEnded) return true;
        }

        return false;
    }
}
