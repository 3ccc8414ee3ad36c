using System.Collections.Concurrent;
using System.Collections.Immutable;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using FusedAttention.Devices;
using FusedAttention.Metal.Launching;
using FusedAttention.Tensors;

namespace FusedAttention.Metal.Planning;

/// <summary>A pair of planes of a paged cache: contiguous <c>[blocks, blockSize, heads, dim]</c> for keys and for values, or for what belongs to them.</summary>
/// <param name="ElementType">Of both planes.</param>
/// <param name="Heads">Key/value heads.</param>
/// <param name="KeyDim">Elements of a head in the plane of the keys.</param>
/// <param name="ValueDim">Elements of a head in the plane of the values.</param>
internal readonly record struct CacheShape(AttentionElementType ElementType, int Heads, int KeyDim, int ValueDim);

/// <summary>New keys or values <c>[tokens, heads, dim]</c>: where they begin, and strides in elements; the last dimension is contiguous.</summary>
internal readonly record struct TokenPlace(MemoryPlace Place, long TokenStride, long HeadStride);

/// <summary>A plane of a layer.</summary>
/// <param name="Place">Where it begins.</param>
/// <param name="Scales">Of codes: where the plane of their scales does.</param>
internal readonly record struct PlanePlace(MemoryPlace Place, MemoryPlace? Scales = null);

/// <summary>Writing a paged cache: <c>cache.metal</c>, and <c>quantize.metal</c> for one of 8 bits. Keys and values of one layer in one launch.</summary>
internal static class CachePlan
{
    private const int Threads = 128;
    private const int ParameterIndex = 5;
    private const int AppendBuffers = 5;
    private const int ScaleBuffers = 2;
    private const int CopyBuffers = 3;

    /// <summary>Bits that move, by the size of an element; or from one type to another.</summary>
    private static readonly ConcurrentDictionary<(string Name, AttentionElementType? Source, AttentionElementType Stored), KernelFunction> Made = new();

    /// <summary>Both kernels, for compiling ahead: new tokens may be of the cache's type, or float; for a cache of 8 bits, of any type.</summary>
    public static ImmutableArray<KernelFunction> Functions(in CacheShape shape)
    {
        if (shape.ElementType.IsEightBit())
        {
            return
            [
                .. AppendFunctions(shape),
                Function("copy_slots", shape), Function("copy_slots", new CacheShape(AttentionElementType.Float32, shape.Heads, 1, 1)),
            ];
        }

        ImmutableArray<KernelFunction> functions = [AppendFunction(shape, shape.ElementType), Function("copy_slots", shape)];
        return shape.ElementType == AttentionElementType.Float32 ? functions : functions.Add(AppendFunction(shape, AttentionElementType.Float32));
    }

    /// <summary>An empty list for <see cref="Append"/> and <see cref="CopySlots"/>.</summary>
    public static LaunchList NewLaunches() => new(ParameterIndex, Unsafe.SizeOf<CacheParameters>());

    /// <summary>Writes new tokens into their slots; no launch when there is none.</summary>
    /// <param name="shape">The cache.</param>
    /// <param name="sourceType">The type of the new keys and values: converted, or quantized, on the way if it is not the cache's.</param>
    /// <param name="keys">New keys.</param>
    /// <param name="values">New values.</param>
    /// <param name="keyCache">The layer's keys.</param>
    /// <param name="valueCache">The layer's values.</param>
    /// <param name="slots">For each token its slot, <c>block * blockSize + slot in block</c>, in 64 bits; no slot twice.</param>
    /// <param name="tokens">How many there are.</param>
    /// <param name="launches">Receives the launch; all that it has are of this cache and these strides.</param>
    public static void Append(
        in CacheShape shape, AttentionElementType sourceType, in TokenPlace keys, in TokenPlace values, in PlanePlace keyCache, in PlanePlace valueCache, MemoryPlace slots, int tokens, LaunchList launches)
    {
        if (tokens == 0) return;
        var parameters = new CacheParameters
        {
            KeyTokenStride = keys.TokenStride,
            KeyHeadStride = keys.HeadStride,
            ValueTokenStride = values.TokenStride,
            ValueHeadStride = values.HeadStride,
            Heads = shape.Heads,
            KeyDim = shape.KeyDim,
            ValueDim = shape.ValueDim,
        };
        MemoryMarshal.Write(launches.Parameters, parameters);
        Span<BufferBinding> buffers = launches.Add(
            AppendFunction(shape, sourceType), AppendBuffers + (shape.ElementType.IsEightBit() ? ScaleBuffers : 0), new GridSize((uint)tokens, 2, 1), new GridSize(Threads, 1, 1), CostOf(shape, tokens), beginsCommandBuffer: false);
        buffers[0] = new(0, keys.Place.Memory, keys.Place.Offset, IsWritten: false);
        buffers[1] = new(1, values.Place.Memory, values.Place.Offset, IsWritten: false);
        BindCache(buffers[2..], keyCache.Place, valueCache.Place, slots);
        if (keyCache.Scales is not MemoryPlace keyScales || valueCache.Scales is not MemoryPlace valueScales) return;
        buffers[AppendBuffers] = new(6, keyScales.Memory, keyScales.Offset, IsWritten: true);
        buffers[AppendBuffers + 1] = new(7, valueScales.Memory, valueScales.Offset, IsWritten: true);
    }

    /// <summary>Copies slots between blocks; no launch when there is none. No copy may write what another one of the same launch reads or writes.</summary>
    /// <param name="shape">The cache.</param>
    /// <param name="keyCache">Where the layer's keys begin.</param>
    /// <param name="valueCache">Where the layer's values begin.</param>
    /// <param name="copies">Which slots, counted over the whole cache: <see cref="SlotCopy"/>.</param>
    /// <param name="count">How many copies there are.</param>
    /// <param name="slots">The most slots of one of them.</param>
    /// <param name="launches">Receives the launch; all that it has are of caches of this shape.</param>
    public static void CopySlots(in CacheShape shape, MemoryPlace keyCache, MemoryPlace valueCache, MemoryPlace copies, int count, long slots, LaunchList launches)
    {
        if (count == 0 || slots == 0) return;
        MemoryMarshal.Write(launches.Parameters, new CacheParameters { Heads = shape.Heads, KeyDim = shape.KeyDim, ValueDim = shape.ValueDim });
        BindCache(
            launches.Add(
                Function("copy_slots", shape), CopyBuffers, new GridSize((uint)count, checked((uint)slots), 2), new GridSize(Threads, 1, 1), CostOf(shape, count * slots), beginsCommandBuffer: false),
            keyCache, valueCache, copies);
    }

    /// <summary>What moving so many tokens counts as beside the arithmetic of other launches.</summary>
    private static double CostOf(in CacheShape shape, long tokens) => TileTable.CostOfElement * tokens * shape.Heads * ((double)shape.KeyDim + shape.ValueDim);

    /// <summary>Where only bits move, the two 16-bit types share a kernel.</summary>
    private static KernelFunction Function(string name, in CacheShape shape) => Made.GetOrAdd(
        (name, null, shape.ElementType), static key => new(KernelFamily.Cache, key.Name, [new SourceDefinition("ELEMENT_T", BitsOf(key.Stored))], []));

    private static KernelFunction AppendFunction(in CacheShape shape, AttentionElementType sourceType) => sourceType == shape.ElementType
        ? Function("append", shape)
        : Made.GetOrAdd(
            (shape.ElementType.IsEightBit() ? "append_codes" : "append", sourceType, shape.ElementType),
            static key => new(
                key.Stored.IsEightBit() ? KernelFamily.Quantize : KernelFamily.Cache,
                key.Name,
                [new SourceDefinition("ELEMENT_T", KernelLibrary.NameOf(key.Stored)), new SourceDefinition("SOURCE_T", KernelLibrary.NameOf(key.Source!.Value))],
                []));

    private static IEnumerable<KernelFunction> AppendFunctions(CacheShape shape) => ElementTypes.Wide.ToArray().Select(source => AppendFunction(shape, source));

    private static string BitsOf(AttentionElementType type) => type.Size() switch
    {
        sizeof(byte) => "uchar",
        sizeof(ushort) => "ushort",
        sizeof(uint) => "uint",
        int size => throw new ArgumentOutOfRangeException(nameof(type), type, $"No cache holds elements of {size} bytes."),
    };

    private static void BindCache(Span<BufferBinding> buffers, MemoryPlace keyCache, MemoryPlace valueCache, MemoryPlace table)
    {
        buffers[0] = new(2, keyCache.Memory, keyCache.Offset, IsWritten: true);
        buffers[1] = new(3, valueCache.Memory, valueCache.Offset, IsWritten: true);
        buffers[2] = new(4, table.Memory, table.Offset, IsWritten: false);
    }
}
