using FusedAttention.Serving;
using Xunit;

namespace FusedAttention.Tests.Serving;

/// <summary>The queue against a list that is sorted anew each time.</summary>
public sealed class RequestQueueTests
{
    [Fact]
    public void Requests_are_asked_in_the_order_of_a_sorted_list()
    {
        var queue = new RequestQueue(maxOvertakes: 3);
        var random = new Random(4);
        List<GenerationRequest> waiting = [], aside = [], gone = [];
        long id = 0;
        for (int step = 0; step < 20_000; step++)
        {
            switch (random.Next(8))
            {
                case 0 or 1 when waiting.Count < 60:
                    GenerationRequest added = New(id++, random.Next(3));
                    queue.Add(added);
                    waiting.Add(added);
                    break;
                case 2 when waiting.Count > 0:
                    GenerationRequest taken = Take(waiting);
                    queue.Remove(taken);
                    gone.Add(taken);
                    break;
                case 3 when gone.Count > 0:
                    GenerationRequest back = Take(gone);
                    queue.Add(back);
                    waiting.Add(back);
                    break;
                case 4 when waiting.Count > 0:
                    GenerationRequest overtaken = waiting[random.Next(waiting.Count)];
                    Assert.Equal(!overtaken.IsDue && overtaken.Overtaken == 2, queue.Overtake(overtaken));
                    break;
                case 5 when waiting.Count > 0 && gone.Count > 0:
                    GenerationRequest follower = Take(waiting);
                    queue.StandAside(follower, gone[random.Next(gone.Count)], random.Next(1, 100));
                    aside.Add(follower);
                    break;
                case 6 when aside.Count > 0 && random.Next(3) == 0:
                    GenerationRequest leader = aside[random.Next(aside.Count)].Leader!;
                    int computed = random.Next(150);
                    GenerationRequest[] free = [.. aside.Where(request => request.Leader == leader && request.LeaderMustHave <= computed)];
                    queue.ComeBack(leader, computed);
                    Assert.All(free, static request => Assert.Null(request.Leader));
                    aside.RemoveAll(free.Contains);
                    waiting.AddRange(free);
                    break;
                case 7 when aside.Count > 0:
                    GenerationRequest cancelled = Take(aside);
                    queue.Remove(cancelled);
                    break;
            }

            // Who left with followers must not forget them: in the scheduler they come back at once.
            Assert.Equal((waiting.Count, waiting.Count + aside.Count), (queue.ReadyCount, queue.Count));
            Assert.Equal(
                waiting.OrderByDescending(static r => r.IsDue).ThenByDescending(static r => r.IsDue ? 0 : r.Options.Priority).ThenBy(static r => r.Id).Select(static r => r.Id),
                InOrder().Select(static r => r.Id));
        }

        IEnumerable<GenerationRequest> InOrder()
        {
            for (GenerationRequest? request = queue.First; request is not null; request = queue.After(request)) yield return request;
        }

        GenerationRequest Take(List<GenerationRequest> list)
        {
            int at = random.Next(list.Count);
            GenerationRequest request = list[at];
            list.RemoveAt(at);
            return request;
        }
    }

    private static GenerationRequest New(long id, int priority) => new(null!, id, [1], new() { Priority = priority }, new(4, default));
}
