namespace FusedAttention.Cuda.Ptx;

/// <content>Barriers in shared memory, 8 bytes each, that count arrivals and copied bytes phase by phase (mbarrier). Compute capability 9.0.</content>
internal sealed partial class PtxKernel
{
    /// <summary>For finding what hangs: a wait that has looked so often traps. 0: it looks for ever.</summary>
    public int MostPolls { get; init; }

    /// <summary>By one thread; then <see cref="PublishArrivals"/>, and a barrier of those who use it.</summary>
    /// <param name="barrier">A multiple of 8.</param>
    /// <param name="arrivals">That end a phase.</param>
    public void InitializeArrivals(Shared barrier, int arrivals) => EmitText("mbarrier.init.shared::cta.b64", barrier, (I32)arrivals);

    /// <summary>What was initialised is seen by copies too.</summary>
    public void PublishArrivals() => Emit("fence.mbarrier_init.release.cluster");

    /// <summary>One arrival: what this thread wrote before is seen by those who wait for the phase.</summary>
    public void Arrive(Shared barrier) => EmitText("mbarrier.arrive.shared::cta.b64", "_", barrier);

    /// <summary>One arrival, as soon as all copies have ended that this thread has begun (<see cref="CopyAsync"/>): they are seen by those who wait for the phase, and the thread waits for nothing.</summary>
    public void ArriveBehindCopies(Shared barrier) => EmitText("cp.async.mbarrier.arrive.noinc.shared::cta.b64", barrier);

    /// <summary>One arrival, and as many bytes more that copies must bring before the phase ends.</summary>
    public void ArriveExpecting(Shared barrier, I32 bytes) => EmitText("mbarrier.arrive.expect_tx.shared::cta.b64", "_", barrier, bytes);

    /// <summary>Waits until the phase of that parity has ended: 0 for the first one. The one before the first counts as ended, and its parity is 1.</summary>
    public void WaitForPhase(Shared barrier, I32 parity)
    {
        string again = NewLabel("wait"), end = NewLabel("end_wait");
        Branch(HasEnded(), end);
        I32? polls = MostPolls == 0 ? null : Variable("polls", (I32)0);
        Place(again);
        Block(() =>
        {
            if (polls is not null)
            {
                polls.Add(1);
                Where(polls > MostPolls, () => Emit("trap"));
            }

            Branch(!HasEnded(), again);
        });
        Place(end);

        Predicate HasEnded()
        {
            Predicate result = Predicate.In(this);
            EmitText("mbarrier.try_wait.parity.shared::cta.b64", result, barrier, parity);
            return result;
        }
    }
}
