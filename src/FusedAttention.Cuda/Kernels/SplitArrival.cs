using FusedAttention.Cuda.Ptx;

namespace FusedAttention.Cuda.Kernels;

/// <summary>Of the blocks of threads that share rows and split their keys, the last to arrive sees what the others have left, and merges it.</summary>
internal static class SplitArrival
{
    /// <summary>Whether this block is the last one. All of its threads ask, after they have stored their partial results; the counter is ready for the next launch then.</summary>
    /// <remarks>One thread's fence speaks for all who waited for the barrier before it. A fence in each thread waits for the copies that are under way as well.</remarks>
    public static Predicate IsLast(PtxKernel k, CallReader call, WorkPlace place, I32 thread)
    {
        k.Barrier();
        I32 isLast = k.Variable("is_last", (I32)0);
        k.If(thread.Is(0), () =>
        {
            Global counter = call.Counters + (PartialRows.OfFirstSplit(call, place.Sequence, place.Item, place.Head, place.Item.FirstRow) << 2);
            isLast.Set(I32.Select(k.AtomicAddFenced(counter, 1).Is(place.Item.Splits - 1), 1, 0));
            k.If(isLast.IsNot(0), () => k.Store(counter, k.Variable("zero", (I32)0)));
        });
        return k.BarrierAny(isLast.IsNot(0));
    }
}
