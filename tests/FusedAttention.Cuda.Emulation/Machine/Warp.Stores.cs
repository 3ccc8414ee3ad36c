using System.Numerics;
using FusedAttention.Cuda.Emulation.Programs;

namespace FusedAttention.Cuda.Emulation.Machine;

/// <content>Stores by the copy engine: what they read in shared memory must stay as it is until they have been waited for.</content>
internal sealed unsafe partial class Warp
{
    private readonly Queue<BulkStore>[] _stores = [.. Enumerable.Range(0, Machine.Lanes.Count).Select(static _ => new Queue<BulkStore>())];
    private readonly int[] _storeGroups = new int[Machine.Lanes.Count];

    /// <summary>A store that is under way, and the number of its group: that of the next commit.</summary>
    private readonly record struct BulkStore(int Instruction, Transfer Transfer, int Group);

    /// <summary>The clock up to which what the warp wrote to shared memory is seen by products and by the copy engine.</summary>
    public uint FencedClock { get; private set; }

    /// <summary>What was written so far will be seen by products and by the copy engine.</summary>
    public void FenceProxy()
    {
        FencedClock = Clock;
        Step();
    }

    public void BeginStore(Instruction* i, int lane, Transfer transfer)
    {
        for (int at = 0; at < transfer.Bytes; at += 16) Block.Shared.ReadAsynchronously(this, i, lane, transfer.SharedAt(at), mayBeUnwritten: false);
        _stores[lane].Enqueue(new(i->Index, transfer, _storeGroups[lane]));
    }

    public void CommitStores(uint mask)
    {
        for (uint lanes = mask; lanes != 0; lanes &= lanes - 1) _storeGroups[BitOperations.TrailingZeroCount(lanes)]++;
    }

    /// <summary>All of a lane's groups but the last so many end.</summary>
    public void WaitForStores(uint mask, int underWay)
    {
        byte* chunk = stackalloc byte[16];
        for (uint lanes = mask; lanes != 0; lanes &= lanes - 1)
        {
            int lane = BitOperations.TrailingZeroCount(lanes);
            while (_stores[lane].TryPeek(out BulkStore store) && store.Group < _storeGroups[lane] - underWay)
            {
                _stores[lane].Dequeue();
                Instruction* i = Program.Code + store.Instruction;
                for (int at = 0; at < store.Transfer.Bytes; at += 16)
                {
                    Buffer.MemoryCopy(Block.Shared.ReadAsynchronously(this, i, lane, store.Transfer.SharedAt(at), mayBeUnwritten: false), chunk, 16, 16);
                    store.Transfer.Write(this, i, lane, at, chunk);
                }
            }
        }
    }

    private void BeginStores()
    {
        foreach (Queue<BulkStore> stores in _stores) stores.Clear();
        Array.Clear(_storeGroups);
        FencedClock = 0;
    }

    private void AssertNoStores()
    {
        for (int lane = 0; lane < Machine.Lanes.Count; lane++)
            if (_stores[lane].TryPeek(out BulkStore store)) throw Fail(Program.Code + store.Instruction, lane, "is a store that nobody has waited for when the warp ended");
    }
}
