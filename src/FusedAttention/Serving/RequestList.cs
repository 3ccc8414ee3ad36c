namespace FusedAttention.Serving;

/// <summary>Requests in an order, linked through themselves: whoever has a request takes it out at once, however long the list. A request is in one list at a time.</summary>
internal sealed class RequestList
{
    public GenerationRequest? First { get; private set; }

    public GenerationRequest? Last { get; private set; }

    public int Count { get; private set; }

    public void AddLast(GenerationRequest request) => AddBefore(null, request);

    /// <summary>Adds a request ahead of another one, or at the end.</summary>
    public void AddBefore(GenerationRequest? next, GenerationRequest request)
    {
        GenerationRequest? previous = next is null ? Last : next.Previous;
        request.List = this;
        request.Previous = previous;
        request.Next = next;
        if (previous is null) First = request;
        else previous.Next = request;
        if (next is null) Last = request;
        else next.Previous = request;
        Count++;
    }

    /// <summary>Adds a request behind those that came before it. The search begins at <paramref name="from"/>.</summary>
    /// <param name="request">The request.</param>
    /// <param name="from">A request that came before it, if one is known.</param>
    public void AddInOrder(GenerationRequest request, GenerationRequest? from = null)
    {
        if (Last is null || Last.Id < request.Id)
        {
            AddLast(request);
            return;
        }

        GenerationRequest next = from ?? First!;
        while (next.Id < request.Id) next = next.Next!;
        AddBefore(next, request);
    }

    public void Remove(GenerationRequest request)
    {
        if (request.Previous is null) First = request.Next;
        else request.Previous.Next = request.Next;
        if (request.Next is null) Last = request.Previous;
        else request.Next.Previous = request.Previous;
        request.List = null;
        request.Previous = null;
        request.Next = null;
        Count--;
    }
}
