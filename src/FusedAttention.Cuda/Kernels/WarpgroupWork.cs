using System.Runtime.CompilerServices;
using FusedAttention.Cuda.Ptx;
using FusedAttention.Devices;

namespace FusedAttention.Cuda.Kernels;

/// <summary>An item in the queue, as those who were given it find it: with its sequence and its head, all in shared memory until the slot is given back.</summary>
/// <param name="k">The kernel.</param>
/// <param name="at">The slot.</param>
internal sealed class WorkSlot(PtxKernel k, Shared at)
{
    public const int SequenceOffset = 32;
    public const int HeadOffset = 112;
    public const int CarefulOffset = 116;
    public const int SpecialsOffset = 120;
    public const int RangesOffset = 128;

    /// <summary>The key/value head; negative where there is no more work.</summary>
    public I32 Head => k.Load<I32>(at + HeadOffset);

    /// <summary>Whether it is done again because of values that are not finite: 1 or 0.</summary>
    public I32 Careful => k.Load<I32>(at + CarefulOffset);

    /// <summary>The span of <see cref="SpecialValues"/>.</summary>
    public Shared Specials => at + SpecialsOffset;

    /// <summary>Of the item among all work. It has the word of the item's partial rows, of which a prefill has none.</summary>
    public I32 Number => k.Load<I32>(at + NumberOffset);

    public static int NumberOffset => BlockFields<WorkItem>.OffsetOf(ref BlockFields<WorkItem>.Block.Partial);

    public ItemReader Item => ItemReader.At(k, at);

    /// <summary>What its rows see.</summary>
    public ItemRanges Ranges => ItemRanges.At(k, at + RangesOffset);

    /// <summary>What the rows of a warpgroup see.</summary>
    public WarpgroupReach ReachOf(I32 warpgroup) => ItemRanges.ReachAt(k, at + RangesOffset, warpgroup);

    /// <summary>Finds what its rows see, once the item is there for all lanes of the warp.</summary>
    public void LeaveRanges(CallReader call, in WarpgroupTile tile, I32 lane) => ItemRanges.Leave(k, call, tile, this, lane, at + RangesOffset);

    /// <summary>One of its words.</summary>
    public Shared Word(I32 index) => at + (index << 2);

    public SequenceReader Sequence => new(k, at + SequenceOffset);
}

/// <summary>
/// How items reach those who copy and compute: a warp of its own takes the next number, leaves its item in a slot and announces it, while the one before is worked on. Items whose sums are not finite come back
/// to it, and are announced once more when there are many of them, or nothing else.
/// </summary>
/// <param name="k">The kernel.</param>
/// <param name="call">The call.</param>
/// <param name="memory">With the slots.</param>
/// <param name="tile">The kernel's sizes.</param>
internal sealed class WarpgroupWork(PtxKernel k, CallReader call, WarpgroupMemory memory, WarpgroupTile tile)
{
    private const int WordsOfItem = 8;
    private const int WordsOfSequence = 20;

    /// <summary>Items that may wait to be done again: each of the warpgroups may report those in the slots and one more.</summary>
    private const int MostWaiting = WarpgroupMemory.MostAgain - 16;

    private readonly WarpgroupParameters _parameters = new(k);

    /// <summary>The others' side: waits for the next item.</summary>
    public WorkSlot Take(StageRing ring)
    {
        k.WaitForPhase(WarpgroupMemory.Of(memory.WorkFull, ring), ring.Parity);
        return SlotOf(ring);
    }

    /// <summary>The side of warps that look something up for the consumers: each item, until there are none left.</summary>
    /// <param name="name">In the text.</param>
    /// <param name="lane">Of the warp.</param>
    /// <param name="look">Gets an item and its head.</param>
    public void ForEachItem(string name, I32 lane, Action<WorkSlot, I32> look)
    {
        var queue = new StageRing(k, $"{name}_queue", WarpgroupMemory.Slots, parity: 0);
        k.Repeat($"{name}_item", () =>
        {
            WorkSlot slot = Take(queue);
            I32 head = k.ShuffleFrom(slot.Head, 0).As($"{name}_head");
            Predicate isThere = head >= 0;
            k.If(isThere, () =>
            {
                look(slot, head);
                k.WarpBarrier();
                k.Where(lane.Is(0), () => k.Arrive(WarpgroupMemory.Of(memory.WorkEmpty, queue)));
                queue.Advance();
            });
            return isThere;
        });
    }

    /// <summary>The consumers' side, one thread of a warpgroup: the item has sums that are not finite.</summary>
    public void Report(WorkSlot slot)
    {
        I32 index = k.AtomicAdd(memory.AgainCount, 1);
        k.Store(memory.Again + ((index & (WarpgroupMemory.MostAgain - 1)) << 2), slot.Number);
    }

    /// <summary>A warp announces items until there are none left.</summary>
    /// <param name="lane">Of the warp.</param>
    /// <param name="packer">What the warp does beside that: packs its part of each item's mask. Null: nothing.</param>
    public void HandOut(I32 lane, WarpgroupMaskPacker? packer)
    {
        if (Unsafe.SizeOf<WorkItem>() != WordsOfItem * sizeof(int) || Unsafe.SizeOf<SequenceEntry>() != WordsOfSequence * sizeof(int)) throw new InvalidOperationException("A slot does not hold an item and a sequence.");
        StageRing ring = new(k, "work", WarpgroupMemory.Slots, parity: 1), loaded = new(k, "loaded", 1, parity: 0);
        I32 items = _parameters.Items.As("items"), total = (items * call.KeyValueHeads).As("total_work");
        I32 blocks = k.BlocksX().As("blocks"), next = k.Variable("next_work", k.BlockX()), done = k.Variable("done_again", (I32)0);
        Predicate isFirst = lane.Is(0);
        k.Repeat("announce", () =>
        {
            k.WaitForPhase(WarpgroupMemory.Of(memory.WorkEmpty, ring), ring.Parity);
            I32 number = k.Variable("work", (I32)(-1)), careful = k.Variable("careful", (I32)0);
            k.If((next < total) & (Reported(isFirst) - done <= MostWaiting), () =>
            {
                number.Set(next);
            }, () =>
            {
                // All that was announced has been worked on when both slots are free: then nobody reports any more.
                k.WaitForPhase(memory.WorkEmpty + ((ring.Index ^ 1) << 3), ring.Parity ^ ring.Index);
                k.If(Reported(isFirst) > done, () =>
                {
                    number.Set(k.Load<I32>(memory.Again + ((done & (WarpgroupMemory.MostAgain - 1)) << 2)));
                    careful.Set(1);
                    done.Add(1);
                });
            });
            Predicate isThere = number >= 0;
            WorkSlot slot = SlotOf(ring);
            Announce(slot, lane, number, items, careful, isThere);
            k.WarpBarrier();
            k.If(isThere, () => slot.LeaveRanges(call, tile, lane));
            k.WarpBarrier();
            Shared full = WarpgroupMemory.Of(memory.WorkFull, ring);
            k.Where(isFirst, () => k.Arrive(full));
            ring.Advance();
            if (packer is not null) k.If(isThere, () => packer.Pack(slot, k.ShuffleFrom(slot.Head, 0)));

            // Each block begins with its own number, and takes another one when it is nearly done: an item that is taken early waits while others are idle. Two items earlier a causal call of 8k takes 9 % more at D = 128, 22 % at 256.
            k.If(isThere & careful.Is(0), () =>
            {
                k.WaitForPhase(memory.WorkLoaded, loaded.Parity);
                k.If(isFirst, () => next.Set(k.AtomicAdd(_parameters.Scheduler, 1) + blocks));
                next.Set(k.ShuffleFrom(next, 0));
            });
            loaded.Advance();
            return isThere;
        });
        EndLaunch(isFirst);
    }

    /// <summary>How many items have been reported; by an atomic operation, since others may be reporting right now.</summary>
    private I32 Reported(Predicate isFirst)
    {
        I32 count = k.Variable("reported", (I32)0);
        k.If(isFirst, () => count.Set(k.AtomicAdd(memory.AgainCount, 0)));
        return k.ShuffleFrom(count, 0);
    }

    /// <summary>Each lane copies a word.</summary>
    private void Announce(WorkSlot slot, I32 lane, I32 number, I32 items, I32 careful, Predicate isThere)
    {
        Shared word = slot.Word(lane);
        k.If(isThere, () =>
        {
            I32 head = I32.Quotient(number, items);
            Anywhere item = call.ItemPlace(number - (head * items));
            I32 sequence = k.Load<I32>(item);
            Anywhere entry = call.SequencePlace(sequence);
            I64 offset = I64.Product(lane, 4);
            k.If(lane < WordsOfItem, () => k.Store(word, I32.Select(lane.Is(WorkSlot.NumberOffset / sizeof(int)), number, k.Load<I32>(item + offset))));
            k.If((lane >= WordsOfItem) & (lane < WordsOfItem + WordsOfSequence), () => k.Store(word, k.Load<I32>(entry + offset + (-WordsOfItem * sizeof(int)))));
            k.If(lane.Is(WorkSlot.HeadOffset / sizeof(int)), () => k.StoreVector(word, head, careful, I32.InRegister(k, int.MaxValue), I32.InRegister(k, 0)));
        }, () => k.If(lane.Is(WorkSlot.HeadOffset / sizeof(int)), () => k.Store(word, I32.InRegister(k, -1))));
    }

    /// <summary>The last block to find that nothing is left makes the counters ready for the next launch.</summary>
    private void EndLaunch(Predicate isFirst) => k.If(isFirst, () =>
    {
        I32 ended = k.AtomicAdd(_parameters.Scheduler + sizeof(int), 1) + 1;
        k.If(ended.Is(k.BlocksX()), () => k.StoreVector(_parameters.Scheduler, I32.InRegister(k, 0), I32.InRegister(k, 0)));
    });

    private WorkSlot SlotOf(StageRing ring) => new(k, memory.WorkSlots + (ring.Index * WarpgroupMemory.SlotBytes));
}

/// <summary>Reads the <see cref="WarpgroupBlock"/>; each property writes a load of its own.</summary>
/// <param name="k">The kernel.</param>
internal sealed class WarpgroupParameters(PtxKernel k)
{
    public I64 QueryMap => AddressOf(ref BlockFields<WarpgroupBlock>.Block.QueryMap);

    public I64 KeyMap => AddressOf(ref BlockFields<WarpgroupBlock>.Block.KeyMap);

    public I64 ValueMap => AddressOf(ref BlockFields<WarpgroupBlock>.Block.ValueMap);

    public Global Scheduler => new(k.Parameter<I64>(OffsetOf(ref BlockFields<WarpgroupBlock>.Block.Scheduler)));

    public I32 Items => I32Of(ref BlockFields<WarpgroupBlock>.Block.Items);

    public I32 QueryRows => I32Of(ref BlockFields<WarpgroupBlock>.Block.QueryRows);

    public I32 QueryBatches => I32Of(ref BlockFields<WarpgroupBlock>.Block.QueryBatches);

    public I32 KeyBatches => I32Of(ref BlockFields<WarpgroupBlock>.Block.KeyBatches);

    public I32 ValueBatches => I32Of(ref BlockFields<WarpgroupBlock>.Block.ValueBatches);

    public I32 ValueTokens => I32Of(ref BlockFields<WarpgroupBlock>.Block.ValueTokens);

    private static int OffsetOf<T>(ref T field) => WarpgroupBlock.Offset + BlockFields<WarpgroupBlock>.OffsetOf(ref field);

    private I64 AddressOf(ref TensorMap map) => k.ParameterAddress() + (long)OffsetOf(ref map);

    private I32 I32Of(ref int field) => k.Parameter<I32>(OffsetOf(ref field));
}
