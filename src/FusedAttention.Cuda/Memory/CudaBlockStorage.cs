using System.Runtime.CompilerServices;
using FusedAttention.Cuda.Kernels;
using FusedAttention.Cuda.Launching;
using FusedAttention.Cuda.Planning;
using FusedAttention.Devices;
using FusedAttention.Paging.Formats;
using FusedAttention.Paging.Ledger;
using FusedAttention.Paging.Storage;

namespace FusedAttention.Cuda.Memory;

/// <summary>
/// The contents of a cache's blocks in device memory: an allocation for each layer and plane, so that streams wait for each other's work on a layer only. Nothing here waits on the host: what is written and
/// copied is queued.
/// </summary>
internal sealed unsafe class CudaBlockStorage : BlockStorage
{
    /// <summary>Rows of the host that are staged at once: long enough that a launch is nothing beside the copy (0.3 ms at 25 GB/s), short enough that pinned memory stays small.</summary>
    private const long MostStagedBytes = 8 << 20;

    private readonly CudaDevice _device;
    private readonly TensorMemory[][] _layers;

    /// <summary>By layer: its planes, as what writes them.</summary>
    private readonly MemoryUse[][] _layerUses;
    private readonly MemoryUse[] _allUses;

    /// <summary>By layer: its planes, as what reads them.</summary>
    private readonly MemoryUse[][] _layerReads;

    public CudaBlockStorage(CudaDevice device, PagedKeyValueCacheOptions options, CacheFormat format)
        : base(options, format)
    {
        _device = device;
        _layers = new TensorMemory[options.Layers][];
        try
        {
            for (int layer = 0; layer < options.Layers; layer++)
            {
                _layers[layer] = new TensorMemory[format.Planes.Length];
                for (int plane = 0; plane < format.Planes.Length; plane++) _layers[layer][plane] = device.AllocateMemory(LayerBytes(plane));
            }
        }
        catch
        {
            Dispose(disposing: true);
            throw;
        }

        _layerUses = [.. _layers.Select(static layer => layer.Select(static plane => new MemoryUse(plane, IsWritten: true)).ToArray())];
        _layerReads = [.. _layers.Select(static layer => layer.Select(static plane => new MemoryUse(plane, IsWritten: false)).ToArray())];
        _allUses = [.. _layerUses.SelectMany(static uses => uses)];
    }

    /// <summary>Keys and values themselves, as kernels see them.</summary>
    public CacheShape Shape => new(Format.Planes[CacheFormat.Keys].ElementType, Format.Heads, Format.Planes[CacheFormat.Keys].Elements, Format.Planes[CacheFormat.Values].Elements);

    /// <summary>The memory of a layer, plane by plane.</summary>
    public ReadOnlySpan<TensorMemory> MemoryOf(int layer) => _layers[layer];

    /// <summary>The device copies, on its default stream, behind what all streams do with the cache and before what they do with it next.</summary>
    public override void CopyBlock(int from, int to, int slots)
    {
        if (slots == 0) return;
        using Lease lease = new(_allUses);
        using Submission work = new(_device.DefaultStream, _allUses);
        work.Begin();
        foreach (TensorMemory[] layer in _layers)
            for (int plane = 0; plane < layer.Length; plane++) work.Copy(PlaceOf(layer[plane], plane, to, 0), PlaceOf(layer[plane], plane, from, 0), slots * SlotBytes(plane));
        work.End();
    }

    /// <summary>The processor converts or quantizes the rows into pinned memory, packed; the device copies them from there, on its default stream, and a kernel puts them into their slots.</summary>
    public override void Store(int layer, SlotRuns runs, in TokenRows keys, in TokenRows values)
    {
        long rowBytes = 0;
        for (int plane = 0; plane < Format.Planes.Length; plane++) rowBytes += SlotBytes(plane);
        int most = (int)Math.Clamp(MostStagedBytes / (rowBytes + sizeof(long)), 1, int.MaxValue), left = 0;
        foreach (SlotRun run in runs) left += run.Count;
        if (left == 0) return;
        _device.Runtime.Prepare(CachePlan.Function(Shape.ElementType, Shape.ElementType));
        using Lease lease = new(_layerUses[layer]);
        SlotRuns rest = runs.GetEnumerator();
        SlotRun current = default;
        while (left > 0)
        {
            int rows = Math.Min(left, most);
            Store(layer, ref rest, ref current, rows, keys, values);
            left -= rows;
        }
    }

    /// <summary>The device copies into pinned memory, on its default stream, and the host waits for that.</summary>
    public override void Fetch(int layer, SlotRuns runs, int tokens, byte* destination)
    {
        using Lease lease = new(_layerUses[layer]);
        using Submission work = new(_device.DefaultStream, _layerReads[layer]);
        long bytes = 0;
        for (int plane = 0; plane < Format.Planes.Length; plane++) bytes += tokens * SlotBytes(plane);
        MemoryPlace staged = work.Pinned.Take(bytes);
        byte* first = staged.Memory.Pointer + staged.Offset, at = first;
        work.Begin();
        for (int plane = 0; plane < Format.Planes.Length; plane++)
        {
            foreach (SlotRun run in runs) work.CopyToHost(at + (run.Row * SlotBytes(plane)), PlaceOf(_layers[layer][plane], plane, run.Block, run.Slot), run.Count * SlotBytes(plane));
            at += tokens * SlotBytes(plane);
        }

        // While the submission lasts, nobody else is given the pinned memory.
        _device.DefaultStream.Wait(work.End());
        Buffer.MemoryCopy(first, destination, bytes, bytes);
    }

    /// <summary>Writes rows that lie on the device into their slots, converted to the cache's type, or quantized.</summary>
    /// <param name="stream">Where.</param>
    /// <param name="layer">Which.</param>
    /// <param name="runs">Where they go.</param>
    /// <param name="tokens">How many there are; 1 or more.</param>
    /// <param name="source">Their type.</param>
    /// <param name="keys">Keys.</param>
    /// <param name="values">Values.</param>
    /// <param name="uses">The layer's planes and what the rows lie in, held by the caller.</param>
    [SkipLocalsInit]
    public void Append(CudaStream stream, int layer, SlotRuns runs, int tokens, AttentionElementType source, in TokenPlace keys, in TokenPlace values, ReadOnlySpan<MemoryUse> uses)
    {
        Span<byte> parameters = stackalloc byte[CallBlock.MostParameterBytes];
        _device.Runtime.Prepare(CachePlan.Function(source, Shape.ElementType));
        using Submission work = new(stream, uses);
        MemoryPlace? staged = null, slots = null;
        long bytes = (long)tokens * sizeof(long);
        if (tokens <= CachePlan.MostInlineSlots)
        {
            WriteSlots(runs, CachePlan.InlineSlots(parameters));
        }
        else
        {
            MemoryPlace place = work.Pinned.Take(bytes);
            WriteSlots(runs, new Span<long>(place.Memory.Pointer + place.Offset, tokens));
            (staged, slots) = (place, work.Transient.Take(bytes));
        }

        KernelLaunch launch = CachePlan.Append(Shape, source, tokens, keys, values, PlaceOf(layer, CachePart.Keys), PlaceOf(layer, CachePart.Values), slots, parameters);
        work.Begin();
        if (staged is MemoryPlace from && slots is MemoryPlace to) work.CopyToDevice(to, from, bytes);
        work.Launch(launch);
        work.End();
    }

    protected override void Dispose(bool disposing)
    {
        foreach (TensorMemory?[]? layer in _layers)
        {
            if (layer is null) continue;
            foreach (TensorMemory? plane in layer) plane?.Dispose();
        }
    }

    /// <summary>Stages some rows and queues their way into the cache.</summary>
    /// <param name="layer">Which.</param>
    /// <param name="rest">Runs that follow <paramref name="current"/>.</param>
    /// <param name="current">What is left of the run that was begun.</param>
    /// <param name="rows">How many.</param>
    /// <param name="keys">The rows of the keys.</param>
    /// <param name="values">The rows of the values.</param>
    [SkipLocalsInit]
    private void Store(int layer, ref SlotRuns rest, ref SlotRun current, int rows, in TokenRows keys, in TokenRows values)
    {
        Span<byte> parameters = stackalloc byte[CallBlock.MostParameterBytes];
        using Submission work = new(_device.DefaultStream, _layerUses[layer]);

        // Slots first, which lie at multiples of 8; then keys, values, and their scales if there are any.
        long keyBytes = SlotBytes(CacheFormat.Keys), valueBytes = SlotBytes(CacheFormat.Values), scaleBytes = Format.HasScales ? SlotBytes(CacheFormat.KeyScales) : 0;
        long keysAt = Aligned((long)rows * sizeof(long)), valuesAt = keysAt + Aligned(rows * keyBytes), keyScalesAt = valuesAt + Aligned(rows * valueBytes);
        long valueScalesAt = keyScalesAt + Aligned(rows * scaleBytes), bytes = valueScalesAt + (rows * scaleBytes);
        MemoryPlace staged = work.Pinned.Take(bytes), place = work.Transient.Take(bytes);
        byte* first = staged.Memory.Pointer + staged.Offset;
        for (int row = 0; row < rows;)
        {
            if (current.Count == 0)
            {
                rest.MoveNext();
                current = rest.Current;
                continue;
            }

            int count = Math.Min(current.Count, rows - row);
            for (int i = 0; i < count; i++) ((long*)first)[row + i] = SlotOf(current.Block, current.Slot + i);
            Format.Store(CachePart.Keys, keys, current.Row, count, first + keysAt + (row * keyBytes), Format.HasScales ? (float*)(first + keyScalesAt + (row * scaleBytes)) : null);
            Format.Store(CachePart.Values, values, current.Row, count, first + valuesAt + (row * valueBytes), Format.HasScales ? (float*)(first + valueScalesAt + (row * scaleBytes)) : null);
            current = new(current.Row + count, current.Block, current.Slot + count, current.Count - count);
            row += count;
        }

        CacheShape shape = Shape;
        KernelLaunch launch = CachePlan.Append(
            shape, shape.ElementType, rows,
            new(At(keysAt), (long)shape.Heads * shape.KeyDim, shape.KeyDim, Format.HasScales ? At(keyScalesAt) : null),
            new(At(valuesAt), (long)shape.Heads * shape.ValueDim, shape.ValueDim, Format.HasScales ? At(valueScalesAt) : null),
            PlaceOf(layer, CachePart.Keys), PlaceOf(layer, CachePart.Values), place, parameters);
        work.Begin();
        work.CopyToDevice(place, staged, bytes);
        work.Launch(launch);
        work.End();

        MemoryPlace At(long offset) => place with { Offset = place.Offset + offset };
    }

    private static long Aligned(long bytes) => (bytes + TileTable.VectorBytes - 1) & -TileTable.VectorBytes;

    private void WriteSlots(SlotRuns runs, Span<long> slots)
    {
        foreach (SlotRun run in runs)
            for (int i = 0; i < run.Count; i++) slots[run.Row + i] = SlotOf(run.Block, run.Slot + i);
    }

    private long SlotOf(int block, int slot) => ((long)block * Options.BlockSize) + slot;

    private PlanePlace PlaceOf(int layer, CachePart part) =>
        new(new(_layers[layer][(int)part].Memory, 0), Format.HasScales ? new MemoryPlace(_layers[layer][(int)part + CacheFormat.KeyScales].Memory, 0) : null);

    private MemoryPlace PlaceOf(TensorMemory memory, int plane, int block, int slot) => new(memory.Memory, OffsetOf(plane, block, slot));

    /// <summary>Keeps memory while it is being used.</summary>
    private readonly ref struct Lease
    {
        private readonly ReadOnlySpan<MemoryUse> _held;

        public Lease(ReadOnlySpan<MemoryUse> uses)
        {
            int held = 0;
            try
            {
                for (; held < uses.Length; held++) uses[held].Memory.Hold();
            }
            catch
            {
                foreach (MemoryUse use in uses[..held]) use.Memory.DangerousRelease();
                throw;
            }

            _held = uses;
        }

        public void Dispose()
        {
            foreach (MemoryUse use in _held) use.Memory.DangerousRelease();
        }
    }
}
