using FusedAttention.Cuda.Ptx;

namespace FusedAttention.Cuda.Kernels;

/// <summary>
/// A warp that brings the one row of a bias that all rows of an item share from device to shared memory, in floats, a tile ahead of who adds them: who computes reads two keys' at a time, widens nothing and has both of a lane's rows served
/// by one load. Elements of a tile are on their way while the warp waits for room. Without a mask it is the second one who brings a tile's keys, and nobody waits for it apart.
/// </summary>
internal sealed class WarpgroupKeyBiasCopier
{
    private readonly PtxKernel _k;
    private readonly CallReader _call;
    private readonly WarpgroupLookupMemory _places;
    private readonly Shared _full;
    private readonly Shared _empty;
    private readonly WarpgroupTile _tile;
    private readonly I32 _lane;
    private readonly StageRing _biases;

    /// <param name="k">The kernel.</param>
    /// <param name="call">The call.</param>
    /// <param name="memory">Where everything lies.</param>
    /// <param name="tile">Its sizes.</param>
    /// <param name="lane">Of the warp.</param>
    public WarpgroupKeyBiasCopier(PtxKernel k, CallReader call, WarpgroupMemory memory, WarpgroupTile tile, I32 lane)
    {
        (_k, _call, _places, _tile, _lane) = (k, call, memory.Lookups!, tile, lane);
        (_full, _empty) = tile.Lookups.HasBiasWithKeys ? (memory.KeysFull, memory.KeysEmpty) : (_places.BiasFull, _places.BiasEmpty);
        _biases = new(k, "biases", WarpgroupLookups.BiasStages, parity: 1);
    }

    /// <summary>Works on items until there are none left.</summary>
    public void CopyItems(WarpgroupWork work) => work.ForEachItem("bias", _lane, CopyItem);

    private void CopyItem(WorkSlot slot, I32 head)
    {
        ItemReader item = slot.Item;
        I32 first = _k.ShuffleFrom(WarpgroupLoads.FirstTile(item, _tile.Keys), 0).As("bias_first"), key = _k.Variable("bias_key", _k.ShuffleFrom(WarpgroupLoads.LastTile(item, _tile.Keys), 0));
        I32 keys = slot.Sequence.KeyLength.As("bias_keys");
        Global row = new WorkPlace(_k, _call, item, head, slot.Sequence).RowAt(item.FirstRow).Bias!;
        _k.While("bias_tile", () => key >= first, () =>
        {
            F32[] elements = [.. Enumerable.Range(0, (_tile.Keys + 31) / 32).Select(turn => Load(row, key + _lane + (32 * turn), keys))];
            _k.WaitForPhase(WarpgroupMemory.Of(_empty, _biases), _biases.Parity);
            Shared stage = _places.Bias(_biases.Index) + (_lane << 2);
            for (int turn = 0; turn < elements.Length; turn++) _k.Store(stage + (32 * sizeof(float) * turn), elements[turn]);
            Arrive(WarpgroupMemory.Of(_full, _biases));
            _biases.Advance();
            key.Add(-_tile.Keys);
        });
    }

    private void Arrive(Shared full)
    {
        if (!_tile.Lookups.HasBiasWithKeys)
        {
            _k.Arrive(full);
            return;
        }

        _k.WarpBarrier();
        _k.Where(_lane.Is(0), () => _k.Arrive(full));
    }

    /// <summary>A key's bias; behind the sequence's last key that of the last one, which nobody adds to what counts.</summary>
    private F32 Load(Global row, I32 key, I32 keys) =>
        _k.LoadElement(CallReader.FormatOf(_call.Traits.BiasType), row + (I32.Min(key, keys - 1).Widen() * (long)_tile.Lookups.BiasBytes));
}
