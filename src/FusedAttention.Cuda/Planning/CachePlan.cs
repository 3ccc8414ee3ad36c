using System.Collections.Concurrent;
using System.Collections.Immutable;
using System.Runtime.InteropServices;
using FusedAttention.Cuda.Kernels;
using FusedAttention.Cuda.Launching;
using FusedAttention.Devices;

namespace FusedAttention.Cuda.Planning;

/// <summary>The planes of the keys and of the values of a paged cache, contiguous <c>[blocks, blockSize, heads, dim]</c>. Those of 8 bits have planes of scales beside them, <c>[blocks, blockSize, heads]</c>.</summary>
/// <param name="ElementType">Of both planes.</param>
/// <param name="Heads">Key/value heads.</param>
/// <param name="KeyDim">Elements of a head in the plane of the keys.</param>
/// <param name="ValueDim">Elements of a head in the plane of the values.</param>
internal readonly record struct CacheShape(AttentionElementType ElementType, int Heads, int KeyDim, int ValueDim);

/// <summary>New keys or values <c>[tokens, heads, dim]</c>: where they begin, and strides in elements; the last dimension is contiguous.</summary>
/// <param name="Place">Of the first.</param>
/// <param name="TokenStride">From token to token.</param>
/// <param name="HeadStride">From head to head.</param>
/// <param name="Scales">Of codes: where their scales <c>[tokens, heads]</c> begin, contiguous.</param>
internal readonly record struct TokenPlace(MemoryPlace Place, long TokenStride, long HeadStride, MemoryPlace? Scales = null);

/// <summary>Keys or values of a layer.</summary>
/// <param name="Place">Where their plane begins.</param>
/// <param name="Scales">Of 8 bits: where that of their scales does.</param>
internal readonly record struct PlanePlace(MemoryPlace Place, MemoryPlace? Scales);

/// <summary>Writing a paged cache: keys and values of one layer in one launch.</summary>
internal static class CachePlan
{
    private static readonly ConcurrentDictionary<(AttentionElementType Source, AttentionElementType Stored), KernelFunction> Functions = new();

    /// <summary>Tokens whose slots travel in the launch's parameter.</summary>
    public static int MostInlineSlots => (CallBlock.MostParameterBytes - CacheBlock.SlotsBehindBlock) / sizeof(long);

    /// <summary>What writes rows of one type into a cache of another; made once in a process.</summary>
    public static KernelFunction Function(AttentionElementType source, AttentionElementType stored) => Functions.GetOrAdd((source, stored), static key => Make(key.Source, key.Stored));

    /// <summary>For compiling ahead: new tokens may be of the cache's type, or float; for one of 8 bits, what the host has quantized, or of any type.</summary>
    public static ImmutableArray<KernelFunction> FunctionsOf(AttentionElementType stored) => stored switch
    {
        AttentionElementType.Float32 => [Function(stored, stored)],
        AttentionElementType.Float16 or AttentionElementType.BFloat16 => [Function(stored, stored), Function(AttentionElementType.Float32, stored)],
        _ => [Function(stored, stored), Function(AttentionElementType.Float32, stored), Function(AttentionElementType.Float16, stored), Function(AttentionElementType.BFloat16, stored)],
    };

    /// <summary>Where slots that travel in the parameter are written.</summary>
    /// <param name="parameters"><see cref="CallBlock.MostParameterBytes"/>.</param>
    public static Span<long> InlineSlots(Span<byte> parameters) => MemoryMarshal.Cast<byte, long>(parameters[CacheBlock.SlotsBehindBlock..]);

    /// <summary>The launch that writes new tokens into their slots.</summary>
    /// <param name="shape">The cache.</param>
    /// <param name="source">The type of the new keys and values: converted, or quantized, on the way if it is not the cache's.</param>
    /// <param name="tokens">How many; 1 or more.</param>
    /// <param name="keys">New keys.</param>
    /// <param name="values">New values.</param>
    /// <param name="keyCache">The layer's keys.</param>
    /// <param name="valueCache">The layer's values.</param>
    /// <param name="slots">Where their slots are on the device, no slot twice; null: in the parameter.</param>
    /// <param name="parameters">Receives the parameter: <see cref="CallBlock.MostParameterBytes"/>; in use as long as the launch.</param>
    public static KernelLaunch Append(
        in CacheShape shape, AttentionElementType source, int tokens, in TokenPlace keys, in TokenPlace values, in PlanePlace keyCache, in PlanePlace valueCache, MemoryPlace? slots, Span<byte> parameters)
    {
        MemoryMarshal.Write(parameters, new CacheBlock
        {
            Keys = keys.Place.Address(),
            Values = values.Place.Address(),
            KeyScales = keys.Scales?.Address() ?? 0,
            ValueScales = values.Scales?.Address() ?? 0,
            KeyCache = keyCache.Place.Address(),
            ValueCache = valueCache.Place.Address(),
            KeyScaleCache = keyCache.Scales?.Address() ?? 0,
            ValueScaleCache = valueCache.Scales?.Address() ?? 0,
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
