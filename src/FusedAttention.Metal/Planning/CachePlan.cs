using System.Collections.Immutable;
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

/// <summary>Writing a paged cache: <c>cache.metal</c>. Keys and values of one layer in one launch.</summary>
internal static class CachePlan
{
    private const int Threads = 128;
    private const int ParameterIndex = 5;

    /// <summary>Both kernels, for compiling ahead: new tokens may be of the cache's type, or float.</summary>
    public static ImmutableArray<KernelFunction> Functions(in CacheShape shape)
    {
        ImmutableArray<KernelFunction> functions = [AppendFunction(shape, shape.ElementType), Function("copy_slots", shape)];
        return shape.ElementType == AttentionElementType.Float32 ? functions : functions.Add(AppendFunction(shape, AttentionElementType.Float32));
    }

    /// <summary>Writes new tokens into their slots; null when there is none.</summary>
    /// <param name="shape">The cache.</param>
    /// <param name="sourceType">The type of the new keys and values: converted on the way if it is not the cache's.</param>
    /// <param name="keys">New keys.</param>
    /// <param name="values">New values.</param>
    /// <param name="keyCache">Where the layer's keys begin.</param>
    /// <param name="valueCache">Where the layer's values begin.</param>
    /// <param name="slots">For each token its slot, <c>block * blockSize + slot in block</c>; no slot twice.</param>
    /// <param name="transient">Takes the slots.</param>
    public static KernelLaunch? Append(
        in CacheShape shape, AttentionElementType sourceType, TokenPlace keys, TokenPlace values, MemoryPlace keyCache, MemoryPlace valueCache, ReadOnlySpan<long> slots, ITransientMemory transient)
    {
        if (slots.IsEmpty) return null;
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
        return Launch(
            AppendFunction(shape, sourceType),
            [
                new BufferBinding(0, keys.Place.Memory, keys.Place.Offset, IsWritten: false),
                new BufferBinding(1, values.Place.Memory, values.Place.Offset, IsWritten: false),
            ],
            keyCache, valueCache, Table(slots, transient), parameters, new GridSize((uint)slots.Length, 2, 1));
    }

    /// <summary>Copies slots between blocks; null when there is none. No copy may write what another one of the same launch reads or writes.</summary>
    /// <param name="shape">The cache.</param>
    /// <param name="keyCache">Where the layer's keys begin.</param>
    /// <param name="valueCache">Where the layer's values begin.</param>
    /// <param name="copies">Which slots, counted over the whole cache.</param>
    /// <param name="transient">Takes the list.</param>
    public static KernelLaunch? CopySlots(in CacheShape shape, MemoryPlace keyCache, MemoryPlace valueCache, ReadOnlySpan<SlotCopy> copies, ITransientMemory transient)
    {
        long slots = 0;
        foreach (SlotCopy copy in copies) slots = Math.Max(slots, copy.Slots);
        if (slots == 0) return null;
        var parameters = new CacheParameters { Heads = shape.Heads, KeyDim = shape.KeyDim, ValueDim = shape.ValueDim };
        return Launch(Function("copy_slots", shape), [], keyCache, valueCache, Table(copies, transient), parameters, new GridSize((uint)copies.Length, checked((uint)slots), 2));
    }

    /// <summary>Where only bits move, the two 16-bit types share a kernel.</summary>
    private static KernelFunction Function(string name, in CacheShape shape) => new(KernelFamily.Cache, name, [new SourceDefinition("ELEMENT_T", BitsOf(shape.ElementType))], []);

    private static KernelFunction AppendFunction(in CacheShape shape, AttentionElementType sourceType) => sourceType == shape.ElementType
        ? Function("append", shape)
        : new(
            KernelFamily.Cache,
            "append",
            [new SourceDefinition("ELEMENT_T", KernelLibrary.NameOf(shape.ElementType)), new SourceDefinition("SOURCE_T", KernelLibrary.NameOf(sourceType))],
            []);

    private static string BitsOf(AttentionElementType type) => type.Size() switch
    {
        sizeof(ushort) => "ushort",
        sizeof(uint) => "uint",
        int size => throw new ArgumentOutOfRangeException(nameof(type), type, $"No cache holds elements of {size} bytes."),
    };

    private static KernelLaunch Launch(
        KernelFunction function, ImmutableArray<BufferBinding> sources, MemoryPlace keyCache, MemoryPlace valueCache, MemoryPlace table, in CacheParameters parameters, GridSize grid) => new(
        function,
        [
            .. sources,
            new BufferBinding(2, keyCache.Memory, keyCache.Offset, IsWritten: true),
            new BufferBinding(3, valueCache.Memory, valueCache.Offset, IsWritten: true),
            new BufferBinding(4, table.Memory, table.Offset, IsWritten: false),
        ],
        ParameterIndex,
        [.. MemoryMarshal.AsBytes(new ReadOnlySpan<CacheParameters>(in parameters))],
        grid,
        new GridSize(Threads, 1, 1));

    private static unsafe MemoryPlace Table<T>(ReadOnlySpan<T> entries, ITransientMemory transient)
        where T : unmanaged
    {
        MemoryPlace place = transient.Take((long)entries.Length * sizeof(T));
        entries.CopyTo(new Span<T>(place.Memory.Pointer + place.Offset, entries.Length));
        return place;
    }
}
