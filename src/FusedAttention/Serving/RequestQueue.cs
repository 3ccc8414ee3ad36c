namespace FusedAttention.Serving;

/// <summary>
/// The requests that wait, in the order in which they are asked: those that are due (overtaken as often as may be), then by priority, then by arrival. Those that wait for a prefix which another one computes stand
/// aside until it has, and hold up nobody.
/// </summary>
/// <remarks>All operations cost the same however long the queue is; but a request that comes back steps over those that are older than it and still wait, which are few: it has overtaken them.</remarks>
/// <param name="maxOvertakes">How often a request is overtaken.</param>
internal sealed class RequestQueue(int maxOvertakes)
{
    private readonly RequestList _due = new();
    private readonly List<PriorityClass> _classes = [];     // the highest first; none is empty
    private int _ready;
    private int _aside;

    /// <summary>All that wait.</summary>
    public int Count => _ready + _aside;

    /// <summary>Those that can be asked.</summary>
    public int ReadyCount => _ready;

    /// <summary>The first to be asked.</summary>
    public GenerationRequest? First => _due.First ?? (_classes.Count > 0 ? _classes[0].Requests.First : null);

    /// <summary>Whom to ask after a request of the queue.</summary>
    public GenerationRequest? After(GenerationRequest request)
    {
        if (request.Next is not null) return request.Next;
        int next = request.IsDue ? 0 : IndexOf(request.List!) + 1;
        return next < _classes.Count ? _classes[next].Requests.First : null;
    }

    public void Add(GenerationRequest request)
    {
        ListFor(request).AddInOrder(request);
        _ready++;
    }

    /// <summary>Takes a request out, wherever it stands.</summary>
    public void Remove(GenerationRequest request)
    {
        RequestList list = request.List!;
        list.Remove(request);
        if (request.Leader is null)
        {
            _ready--;
            if (list.Count == 0 && list != _due) _classes.RemoveAt(IndexOf(list));
        }
        else
        {
            request.Leader = null;
            _aside--;
        }
    }

    /// <summary>Lets a request stand aside until another one has computed some of its tokens.</summary>
    public void StandAside(GenerationRequest request, GenerationRequest leader, int until)
    {
        Remove(request);
        leader.Followers.AddLast(request);
        request.Leader = leader;
        request.LeaderMustHave = until;
        leader.FirstFollowerWaitsFor = leader.Followers.Count == 1 ? until : Math.Min(leader.FirstFollowerWaitsFor, until);
        _aside++;
    }

    /// <summary>Lets those come back who have waited for what a request has computed by now; all of them, if it computes no more.</summary>
    public void ComeBack(GenerationRequest leader, int computed)
    {
        if (leader.Followers.Count == 0 || computed < leader.FirstFollowerWaitsFor) return;
        int next = int.MaxValue;
        GenerationRequest? before = null;
        for (GenerationRequest? request = leader.Followers.First, following; request is not null; request = following)
        {
            following = request.Next;
            if (request.LeaderMustHave > computed)
            {
                next = Math.Min(next, request.LeaderMustHave);
                continue;
            }

            Remove(request);
            RequestList list = ListFor(request);

            // They stood aside in the order of the queue, so each mostly finds its place behind the one before.
            list.AddInOrder(request, before is not null && before.List == list && before.Id < request.Id ? before : null);
            _ready++;
            before = request;
        }

        leader.FirstFollowerWaitsFor = next;
    }

    /// <summary>Notes that a request was admitted ahead of another one.</summary>
    /// <returns>Whether that one is due now.</returns>
    public bool Overtake(GenerationRequest overtaken)
    {
        if (overtaken.IsDue || ++overtaken.Overtaken < maxOvertakes) return false;
        Remove(overtaken);
        overtaken.IsDue = true;
        Add(overtaken);
        return true;
    }

    /// <summary>Notes that a request was admitted ahead of those that came before it with a lower priority: of the first of each class, which stands for the others.</summary>
    /// <returns>Whether any of these is due now.</returns>
    public bool OvertakeLowerPriorities(GenerationRequest admitted)
    {
        bool isDue = false;
        for (int i = _classes.Count - 1; i >= 0 && _classes[i].Priority < admitted.Options.Priority; i--)
            if (_classes[i].Requests.First is { } first && first.Id < admitted.Id) isDue |= Overtake(first);
        return isDue;
    }

    private int IndexOf(RequestList list)
    {
        int i = 0;
        while (_classes[i].Requests != list) i++;
        return i;
    }

    private RequestList ListFor(GenerationRequest request)
    {
        if (request.IsDue) return _due;
        int priority = request.Options.Priority, i = 0;
        while (i < _classes.Count && _classes[i].Priority > priority) i++;
        if (i == _classes.Count || _classes[i].Priority < priority) _classes.Insert(i, new(priority, new()));
        return _classes[i].Requests;
    }

    private readonly record struct PriorityClass(int Priority, RequestList Requests);
}
