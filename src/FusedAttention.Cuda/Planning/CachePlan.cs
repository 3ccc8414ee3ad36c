using System.Collections.Concurrent;
using System.Collections.Immutable;
using System.Runtime.InteropServices;
using FusedAttention.Cuda.Kernels;
using FusedAttention.Cuda.Launching;
using FusedAttention.Devices;

namespace FusedAttention.Cuda.Planning;

/// <summary>A pair of planes of a paged cache: contiguous <c>[blocks, blockSize, heads, dim]</c> for keys and for values, or for what belongs to them.</summary>
/// <param name="ElementType">Of both planes.</param>
/// <param name="Heads">Key/value heads.</param>
/// <param name="KeyDim">Elements of a head in the plane of the keys.</param>
/// <param name="ValueDim">Elements of a head in the plane of the values.</param>
internal readonly record struct CacheShape(AttentionElementType ElementType, int Heads, int KeyDim, int ValueDim);

/// <summary>New keys or values <c>[tokens, heads, dim]</c>: where they begin, and strides in elements; the last dimension is contiguous.</summary>
internal readonly record struct TokenPlace(MemoryPlace Place, long TokenStride, long HeadStride);

/// <summary>Writing a paged cache: keys and values of one layer in one launch.</summary>
internal static class CachePlan
{
    private static readonly ConcurrentDictionary<(AttentionElementType Source, AttentionElementType Stored), KernelFunction> Functions = new();

    /// <summary>Tokens whose slots travel in the launch's parameter.</summary>
    public static int MostInlineSlots => (CallBlock.MostParameterBytes - CacheBlock.SlotsBehindBlock) / sizeof(long);

    /// <summary>What writes rows of one type into a cache of another; made once in a process.</summary>
    public static KernelFunction Function(AttentionElementType source, AttentionElementType stored) => Functions.GetOrAdd((source, stored), static key => Make(key.Source, key.Stored));

    /// <summary>For compiling ahead: new tokens may be of the cache's type, or float.</summary>
    public static ImmutableArray<KernelFunction> FunctionsOf(AttentionElementType stored)
    {
        ImmutableArray<KernelFunction> functions = [Function(stored, stored)];
        return stored == AttentionElementType.Float32 ? functions : functions.Add(Function(AttentionElementType.Float32, stored));
    }

    /// <summary>Where slots that travel in the parameter are written.</summary>
    /// <param name="parameters"><see cref="CallBlock.MostParameterBytes"/>.</param>
    public static Span<long> InlineSlots(Span<byte> parameters) => MemoryMarshal.Cast<byte, long>(parameters[CacheBlock.SlotsBehindBlock..]);

    /// <summary>The launch that writes new tokens into their slots.</summary>
    /// <param name="shape">The cache.</param>
    /// <param name="source">The type of the new keys and values: converted on the way if it is not the cache's.</param>
    /// <param name="tokens">How many; 1 or more.</param>
    /// <param name="keys">New keys.</param>
    /// <param name="values">New values.</param>
    /// <param name="keyCache">Where the layer's keys begin.</param>
    /// <param name="valueCache">Where the layer's values begin.</param>
    /// <param name="slots">Where their slots are on the device, no slot twice; null: in the parameter.</param>
    /// <param name="parameters">Receives the parameter: <see cref="CallBlock.MostParameterBytes"/>; in use as long as the launch.</param>
    public static KernelLaunch Append(
        in CacheShape shape, AttentionElementType source, int tokens, in TokenPlace keys, in TokenPlace values, MemoryPlace keyCache, MemoryPlace valueCache, MemoryPlace? slots, Span<byte> parameters)
    {
        MemoryMarshal.Write(parameters, new CacheBlock
        {
            Keys = keys.Place.Address(),
            Values = values.Place.Address(),
            KeyCache = keyCache.Address(),
            ValueCache = valueCache.Address(),
            Slots = slots?.Address() ?? 0,
            Cache = new()
            {
                KeyTokenStride = keys.TokenStride,
                KeyHeadStride = keys.HeadStride,
                ValueTokenStride = values.TokenStride,
                ValueHeadStride = values.HeadStride,
                Heads = shape.Heads,
                KeyDim = shape.KeyDim,
                ValueDim = shape.ValueDim,
            },
        });
        return new(Function(source, shape.ElementType), (uint)tokens, 2, 1, parameters);
    }

    private static KernelFunction Make(AttentionElementType source, AttentionElementType stored) => new(
        "append", $"append {source} to {stored}", CacheKernel.Threads, sharedBytes: 0, () => CacheKernel.Write(CallReader.FormatOf(source), CallReader.FormatOf(stored)).ToString());
}
