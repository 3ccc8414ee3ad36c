using System.Runtime.InteropServices;

namespace FusedAttention.Serving;

/// <summary>The requests that run, in the order in which they get blocks: those that were due first, then by priority, then by arrival. The last one is the first to be put back.</summary>
/// <remarks>A request that ends is only counted out, and leaves the list before the next step is planned, so that ending costs the same however many run.</remarks>
internal sealed class RunningRequests
{
    private readonly List<GenerationRequest> _requests = [];
    private int _ended;

    /// <summary>Those that have not ended.</summary>
    public int Count => _requests.Count - _ended;

    /// <summary>All of them, once <see cref="Settle"/> was called.</summary>
    public ReadOnlySpan<GenerationRequest> Span => CollectionsMarshal.AsSpan(_requests);

    public GenerationRequest this[int index] => _requests[index];

    /// <summary>Notes that a running request has ended.</summary>
    public void CountOut() => _ended++;

    /// <summary>Forgets those that have ended.</summary>
    public void Settle()
    {
        if (_ended == 0) return;
        _requests.RemoveAll(static request => request.HasEnded);
        _ended = 0;
    }

    public void Add(GenerationRequest request)
    {
        int low = 0, high = _requests.Count;
        while (low < high)
        {
            int middle = (low + high) / 2;
            if (Precedes(_requests[middle], request)) low = middle + 1;
            else high = middle;
        }

        _requests.Insert(low, request);
    }

    public GenerationRequest RemoveLast()
    {
        GenerationRequest last = _requests[^1];
        _requests.RemoveAt(_requests.Count - 1);
        return last;
    }

    private static bool Precedes(GenerationRequest a, GenerationRequest b)
    {
        if (a.IsDue != b.IsDue) return a.IsDue;
        return a.IsDue || a.Options.Priority == b.Options.Priority ? a.Id < b.Id : a.Options.Priority > b.Options.Priority;
    }
}
