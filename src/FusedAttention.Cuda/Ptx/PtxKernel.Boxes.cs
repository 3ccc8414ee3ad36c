using System.Globalization;

namespace FusedAttention.Cuda.Ptx;

/// <summary>A box of a tensor: the address of the tensor's map, and where the box begins, innermost dimension first, in elements.</summary>
internal sealed class TensorBox(I64 map, params I32[] at)
{
    public int Rank => at.Length;

    public override string ToString() => $"[{map}, {{{string.Join(", ", (IEnumerable<I32>)at)}}}]";
}

/// <content>Boxes of tensors between device and shared memory, by the device's copy unit (TMA). Compute capability 9.0.</content>
/// <remarks>The copy unit sees shared memory by a way of its own: what threads wrote must pass <see cref="FenceAsyncProxy"/> first; what it wrote is seen by those who waited for its barrier.</remarks>
internal sealed partial class PtxKernel
{
    /// <summary>Queues the copy of a box into shared memory. Elements outside of the tensor are zero; they count among the bytes.</summary>
    /// <param name="to">A multiple of 1,024 where rows are swizzled.</param>
    /// <param name="from">The box.</param>
    /// <param name="arrivals">The barrier that its bytes are counted by.</param>
    /// <param name="policy">What the second-level cache does with it (<see cref="EvictFirst"/>); null: as with anything.</param>
    public void CopyBox(Shared to, TensorBox from, Shared arrivals, I64? policy = null)
    {
        string opcode = string.Create(CultureInfo.InvariantCulture, $"cp.async.bulk.tensor.{from.Rank}d.shared::cluster.global.mbarrier::complete_tx::bytes");
        if (policy is null) EmitText(opcode, to, from, arrivals);
        else EmitText($"{opcode}.L2::cache_hint", to, from, arrivals, policy);
    }

    /// <summary>Queues the copy of a box from shared memory; what lies outside of the tensor is not written.</summary>
    public void StoreBox(TensorBox to, Shared from) => EmitText(string.Create(CultureInfo.InvariantCulture, $"cp.async.bulk.tensor.{to.Rank}d.global.shared::cta.bulk_group"), to, from);

    /// <summary>This thread's stores of boxes since the last commit are one group.</summary>
    public void CommitBoxes() => Emit("cp.async.bulk.commit_group");

    /// <summary>Waits until at most so many of this thread's latest groups still read shared memory.</summary>
    public void WaitForBoxes(int underWay) => Emit("cp.async.bulk.wait_group.read", (I32)underWay);

    /// <summary>Has a tensor's map, which lies in the kernel's parameter, fetched ahead.</summary>
    public void PrefetchMap(I64 map) => EmitText("prefetch.tensormap", new Anywhere(map));

    /// <summary>What this thread wrote to shared memory is seen by matrix products and copies that begin behind a barrier from here.</summary>
    public void FenceAsyncProxy() => Emit("fence.proxy.async.shared::cta");

    /// <summary>Chooses one of the warp's lanes, always the same.</summary>
    /// <returns>Whether it is this one, and its number.</returns>
    public (Predicate IsChosen, I32 Lane) ElectLane()
    {
        Predicate isChosen = Predicate.In(this).As("is_elected");
        I32 lane = I32.In(this).As("elected_lane");
        EmitText("elect.sync", new Both(lane, isChosen), AllLanes);
        return (isChosen, lane);
    }

    /// <summary>Two results of one instruction.</summary>
    private sealed class Both(I32 value, Predicate predicate)
    {
        public override string ToString() => $"{value}|{predicate}";
    }
}
