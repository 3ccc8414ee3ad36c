using Xunit;

namespace FusedAttention.Testing;

/// <summary>What calls allocate on the managed heap, of the whole process: for tests that run alone.</summary>
internal static class Allocations
{
    /// <summary>Fails unless a call allocates nothing once it has been made some times.</summary>
    /// <param name="call">The call.</param>
    /// <param name="calls">How often it is made before and between two looks.</param>
    public static void AssertNone(Action call, int calls = 50)
    {
        for (int i = 0; i < calls + 10; i++) call();
        // The test framework allocates on its own threads: its reports of hundreds of earlier tests went on for longer than eight rounds of these calls on a busy machine. A call that allocates does so in
        // every round, however long the pause before it: 0.1 s, then twice as long each time, 6 s in all.
        long least = long.MaxValue;
        for (int round = 0; round < 8 && least > 0; round++)
        {
            if (round > 1) Thread.Sleep(25 << round);
            long before = GC.GetTotalAllocatedBytes(precise: true);
            for (int i = 0; i < calls; i++) call();
            least = Math.Min(least, GC.GetTotalAllocatedBytes(precise: true) - before);
        }

        Assert.Equal(0, least);
    }
}
