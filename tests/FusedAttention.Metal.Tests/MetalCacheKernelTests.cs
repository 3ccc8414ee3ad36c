using System.Runtime.InteropServices;
using FusedAttention.Devices;
using FusedAttention.Metal.Emulation;
using FusedAttention.Metal.Launching;
using FusedAttention.Metal.Planning;
using FusedAttention.Tensors;
using Xunit;

namespace FusedAttention.Metal.Tests;

/// <summary>Appending to a cache and copying between its blocks, and the self-test of the lane map.</summary>
public sealed class MetalCacheKernelTests
{
    private const int Blocks = 6, BlockSize = 4, Heads = 3, KeyDim = 10, ValueDim = 7;

    [Theory]
    [InlineData(AttentionElementType.Float16)]
    [InlineData(AttentionElementType.BFloat16)]
    [InlineData(AttentionElementType.Float32)]
    public void New_tokens_go_to_their_slots_and_nowhere_else(AttentionElementType type)
    {
        int elementBytes = type.Size();
        using EmulatedRuntime runtime = MetalProblems.Start(EmulatorFlavour.Plain, MetalProblems.AllOrders);
        using var transient = new TransientMemory(runtime);
        long[] slots = [9, 10, 11, 0, 23];
        int[] keyStrides = [Heads * KeyDim, KeyDim], valueStrides = [ValueDim, 5 * ValueDim];
        MemoryPlace keys = Numbers(runtime, slots.Length * Heads * KeyDim, elementBytes, 1), values = Numbers(runtime, slots.Length * Heads * ValueDim, elementBytes, 500);
        MemoryPlace keyCache = Numbers(runtime, Blocks * BlockSize * Heads * KeyDim, elementBytes, 1000), valueCache = Numbers(runtime, Blocks * BlockSize * Heads * ValueDim, elementBytes, 3000);
        byte[] expectedKeys = Content(keyCache), expectedValues = Content(valueCache);
        for (int t = 0; t < slots.Length; t++)
        {
            for (int h = 0; h < Heads; h++)
            {
                Copy(Content(keys), (t * keyStrides[0]) + (h * keyStrides[1]), expectedKeys, (int)((slots[t] * Heads) + h) * KeyDim, KeyDim);
                Copy(Content(values), (t * valueStrides[0]) + (h * valueStrides[1]), expectedValues, (int)((slots[t] * Heads) + h) * ValueDim, ValueDim);
            }
        }

        var shape = new CacheShape(type, Heads, KeyDim, ValueDim);
        var newKeys = new TokenPlace(keys, keyStrides[0], keyStrides[1]);
        var newValues = new TokenPlace(values, valueStrides[0], valueStrides[1]);
        LaunchList launches = CachePlan.NewLaunches();
        CachePlan.Append(shape, type, newKeys, newValues, new(keyCache), new(valueCache), Table(slots, transient), slots.Length, launches);
        runtime.Submit(launches[0]);
        Assert.Equal(expectedKeys, Content(keyCache));
        Assert.Equal(expectedValues, Content(valueCache));
        launches.Clear();
        CachePlan.Append(shape, type, newKeys, newValues, new(keyCache), new(valueCache), default, 0, launches);
        Assert.Equal(0, launches.Count);

        void Copy(byte[] from, int start, byte[] to, int at, int count) => from.AsSpan(start * elementBytes, count * elementBytes).CopyTo(to.AsSpan(at * elementBytes));
    }

    public static TheoryData<AttentionElementType, AttentionElementType> Conversions()
    {
        var pairs = new TheoryData<AttentionElementType, AttentionElementType>();
        foreach (AttentionElementType source in Elements.Wide)
        {
            foreach (AttentionElementType cache in Elements.Wide)
                if (source != cache) pairs.Add(source, cache);
        }

        return pairs;
    }

    /// <summary>All patterns of a 16-bit source; of floats those at and beside every border between two values of a 16-bit type.</summary>
    [Slow]
    [Theory]
    [MemberData(nameof(Conversions))]
    public unsafe void New_tokens_are_converted_as_the_processor_does(AttentionElementType source, AttentionElementType cache)
    {
        const int Dim = 1024;
        byte[] rows = ConversionCases.Of(source);
        int elements = rows.Length / source.Size(), tokens = elements / Dim / 2;
        Assert.Equal(elements, tokens * 2 * Dim);
        byte[] expected = new byte[elements * cache.Size()];
        fixed (byte* from = rows, to = expected) ElementConversion.Convert(source, from, cache, to, elements);

        using EmulatedRuntime runtime = MetalProblems.Start();
        using var transient = new TransientMemory(runtime);
        MemoryPlace keys = new(runtime.Allocate(rows.Length / 2), 0), values = new(runtime.Allocate(rows.Length / 2), 0);
        rows.AsSpan(0, rows.Length / 2).CopyTo(((EmulatedMemory)keys.Memory).Span);
        rows.AsSpan(rows.Length / 2).CopyTo(((EmulatedMemory)values.Memory).Span);
        MemoryPlace keyCache = new(runtime.Allocate(expected.Length / 2), 0), valueCache = new(runtime.Allocate(expected.Length / 2), 0);
        var shape = new CacheShape(cache, 1, Dim, Dim);
        long[] slots = [.. Enumerable.Range(0, tokens)];
        LaunchList launches = CachePlan.NewLaunches();
        CachePlan.Append(shape, source, new(keys, Dim, Dim), new(values, Dim, Dim), new(keyCache), new(valueCache), Table(slots, transient), tokens, launches);
        runtime.Submit(launches[0]);
        ConversionCases.AssertEqual(cache, expected, [.. Content(keyCache).AsSpan(0, expected.Length / 2), .. Content(valueCache).AsSpan(0, expected.Length / 2)]);
    }

    [Fact]
    public void Slots_are_copied_between_blocks()
    {
        using EmulatedRuntime runtime = MetalProblems.Start();
        using var transient = new TransientMemory(runtime);
        MemoryPlace keyCache = Numbers(runtime, Blocks * BlockSize * Heads * KeyDim, 2, 1), valueCache = Numbers(runtime, Blocks * BlockSize * Heads * ValueDim, 2, 2000);
        byte[] expectedKeys = Content(keyCache), expectedValues = Content(valueCache);
        SlotCopy[] copies = [new() { From = 4, To = 20, Slots = 3 }, new() { From = 8, To = 0, Slots = 4 }, new() { From = 0, To = 4, Slots = 0 }];
        foreach (SlotCopy copy in copies)
        {
            CopySlots(expectedKeys, copy, Heads * KeyDim * 2);
            CopySlots(expectedValues, copy, Heads * ValueDim * 2);
        }

        LaunchList launches = CachePlan.NewLaunches();
        CachePlan.CopySlots(new CacheShape(AttentionElementType.Float16, Heads, KeyDim, ValueDim), keyCache, valueCache, Table(copies, transient), copies.Length, slots: 4, launches);
        runtime.Submit(launches[0]);
        Assert.Equal(expectedKeys, Content(keyCache));
        Assert.Equal(expectedValues, Content(valueCache));

        static void CopySlots(byte[] cache, SlotCopy copy, int slotBytes) =>
            cache.AsSpan((int)copy.From * slotBytes, (int)copy.Slots * slotBytes).CopyTo(cache.AsSpan((int)copy.To * slotBytes));
    }

    /// <summary>What the device's self-test computes, where the layout is the one that the emulator was made from.</summary>
    [Fact]
    public void Self_test_of_the_lane_map_finds_the_known_layout()
    {
        using EmulatedRuntime runtime = MetalProblems.Start();
        using DeviceMemory left = runtime.Allocate(256), right = runtime.Allocate(256), elements = runtime.Allocate(3 * 256);
        Span<float> a = Floats(left), b = Floats(right);
        for (int i = 0; i < 64; i++) (a[i], b[i]) = (i, ((i * 7) % 13) - 5);
        var function = new KernelFunction(KernelFamily.LaneMap, "lane_map", [], []);
        runtime.Submit([new KernelLaunch(
            function, [new BufferBinding(0, left, 0, false), new BufferBinding(1, right, 0, false), new BufferBinding(2, elements, 0, true)], 0, [], new GridSize(1, 1, 1), new GridSize(32, 1, 1))]);
        string[] lines = [.. KernelSource.File("lane_map.txt").Split('\n', StringSplitOptions.RemoveEmptyEntries).Where(line => line[0] != '#')];
        for (int lane = 0; lane < 32; lane++)
        {
            for (int e = 0; e < 2; e++)
            {
                int[] place = [.. lines[lane].Split(' ')[1 + e].Split(',').Select(int.Parse)];
                float product = 0;
                for (int k = 0; k < 8; k++) product += Floats(left)[(place[0] * 8) + k] * Floats(right)[(k * 8) + place[1]];
                Span<float> found = Floats(elements);
                Assert.Equal((place[0] * 8) + place[1], found[(lane * 2) + e]);
                Assert.Equal(product, found[64 + (lane * 2) + e]);
                Assert.Equal(product, found[128 + (lane * 2) + e]);
            }
        }
    }

    private static Span<float> Floats(DeviceMemory memory) => MemoryMarshal.Cast<byte, float>(((EmulatedMemory)memory).Span);

    private static unsafe MemoryPlace Table<T>(T[] entries, TransientMemory transient)
        where T : unmanaged
    {
        MemoryPlace place = transient.Take((long)entries.Length * sizeof(T));
        entries.CopyTo(new Span<T>(place.Memory.Pointer + place.Offset, entries.Length));
        return place;
    }

    private static byte[] Content(MemoryPlace place) => ((EmulatedMemory)place.Memory).Span.ToArray();

    private static MemoryPlace Numbers(EmulatedRuntime runtime, int count, int elementBytes, int first)
    {
        DeviceMemory memory = runtime.Allocate((long)count * elementBytes);
        Span<byte> bytes = ((EmulatedMemory)memory).Span;
        for (int i = 0; i < count; i++)
        {
            if (elementBytes == 2) MemoryMarshal.Cast<byte, ushort>(bytes)[i] = (ushort)(first + i);
            else MemoryMarshal.Cast<byte, uint>(bytes)[i] = (uint)(first + i) * 100_003;
        }

        return new MemoryPlace(memory, 0);
    }
}
