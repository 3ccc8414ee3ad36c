using System.Collections.Concurrent;
using System.Collections.Immutable;
using System.Globalization;
using FusedAttention.Devices;
using FusedAttention.Metal.Launching;
using FusedAttention.Tensors;

namespace FusedAttention.Metal.Planning;

/// <summary>The attention kernels as functions to compile: which macros a library is made with. Each is made once in a process, and found by value from then on.</summary>
internal static class KernelLibrary
{
    private static readonly ConcurrentDictionary<Key, KernelFunction> Functions = new();

    /// <summary>The kernel that works on items.</summary>
    public static KernelFunction Main(AttentionKernel kernel, in KernelTraits traits) => Of(new(kernel, IsMerge: false, traits));

    /// <summary>The kernel that merges the splits that a kernel's items leave behind, in the same library.</summary>
    public static KernelFunction MergeSplits(AttentionKernel kernel, in KernelTraits traits) => Of(new(kernel, IsMerge: true, traits));

    /// <summary>A kernel's entry point.</summary>
    public static string NameOf(AttentionKernel kernel) => kernel switch
    {
        AttentionKernel.Prefill => "prefill",
        AttentionKernel.Decode => "decode",
        AttentionKernel.Plain => "plain",
        _ => throw new ArgumentOutOfRangeException(nameof(kernel), kernel, null),
    };

    /// <summary>An element type by its name in <c>common.metal</c> or <c>codes.metal</c>.</summary>
    public static string NameOf(AttentionElementType type) => type switch
    {
        AttentionElementType.Float32 => "float",
        AttentionElementType.Float16 => "half",
        AttentionElementType.BFloat16 => "bfloat_bits",
        AttentionElementType.Int8 => "char",
        AttentionElementType.Float8E4M3 => "e4m3_bits",
        _ => throw ElementTypes.Unknown(type),
    };

    public static SourceDefinition Define(string name, int value) => new(name, value.ToString(CultureInfo.InvariantCulture));

    private static KernelFunction Of(in Key key) => Functions.TryGetValue(key, out KernelFunction? known) ? known : Functions.GetOrAdd(key, static key => new(
        FamilyOf(key.Kernel), key.IsMerge ? "merge_splits" : NameOf(key.Kernel), Definitions(key.Kernel, key.Traits), FunctionConstants.Of(key.Traits))
    {
        Score = key.Traits.Score,
        Keep = key.Traits.Keep,
    });

    private static KernelFamily FamilyOf(AttentionKernel kernel) => kernel switch
    {
        AttentionKernel.Prefill => KernelFamily.Prefill,
        AttentionKernel.Decode => KernelFamily.Decode,
        AttentionKernel.Plain => KernelFamily.Plain,
        _ => throw new ArgumentOutOfRangeException(nameof(kernel), kernel, null),
    };

    private static ImmutableArray<SourceDefinition> Definitions(AttentionKernel kernel, in KernelTraits traits)
    {
        ImmutableArray<SourceDefinition> shared =
        [
            new SourceDefinition("QUERY_T", NameOf(traits.QueryType)),
            .. traits.KeyValueType.IsEightBit()
                ? (ReadOnlySpan<SourceDefinition>)[new("KEY_VALUE_T", NameOf(AttentionElementType.Float16)), new(CodeText.CodeType, NameOf(traits.KeyValueType))]
                : [new("KEY_VALUE_T", NameOf(traits.KeyValueType))],
            Define("KEY_DIM", traits.KeyDim),
            Define("VALUE_DIM", traits.ValueDim),
        ];
        switch (kernel)
        {
            case AttentionKernel.Prefill:
                PrefillTile prefill = TileTable.Prefill(traits.KeyDim, traits.ValueDim, traits.QueryType, traits.KeyValueType)!.Value;
                return shared.AddRange(Define("TILE_KEYS", prefill.Keys), Define("SIMDGROUPS", prefill.Simdgroups), Define("ROW_BLOCKS", prefill.RowBlocks), Define("DIM_PARTS", prefill.DimParts));
            case AttentionKernel.Decode:
                DecodeTile decode = TileTable.Decode(traits.KeyDim, traits.ValueDim, traits.KeyValueType)!.Value;
                return shared.AddRange(Define("LANES", decode.Lanes), Define("ROWS", decode.Rows), Define("SIMDGROUPS", decode.Simdgroups));
            default:
                return shared.Add(Define("SIMDGROUPS", TileTable.PlainSimdgroups));
        }
    }

    private readonly record struct Key(AttentionKernel Kernel, bool IsMerge, KernelTraits Traits);
}
