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
        // The test framework may allocate on its own threads now and then; a call that allocates does so in every round.
        long least = long.MaxValue;
        for (int round = 0; round < 8 && least > 0; round++)
        {
            long before = GC.GetTotalAllocatedBytes(precise: true);
            for (int i = 0; i < calls; i++) call();
            least = Math.Min(least, GC.GetTotalAllocatedBytes(precise: true) - before);
        }

        Assert.Equal(0, least);
    }
}
