using System.Collections.Immutable;
using System.Globalization;
using FusedAttention.Metal.Launching;
using FusedAttention.Problems;

namespace FusedAttention.Metal.Planning;

/// <summary>The attention kernels as functions to compile: which macros a library is made with.</summary>
internal static class KernelLibrary
{
    /// <summary>The kernel that works on items of a family.</summary>
    public static KernelFunction Main(KernelFamily family, AttentionProblem problem, ImmutableArray<FunctionConstant> constants) => new(family, NameOf(family), Definitions(family, problem), constants);

    /// <summary>The kernel that merges the splits that a family's items leave behind, in the same library.</summary>
    public static KernelFunction MergeSplits(KernelFamily family, AttentionProblem problem, ImmutableArray<FunctionConstant> constants) => new(family, "merge_splits", Definitions(family, problem), constants);

    /// <summary>A family's name in plans and its entry point.</summary>
    public static string NameOf(KernelFamily family) => family switch
    {
        KernelFamily.Prefill => "prefill",
        KernelFamily.Decode => "decode",
        KernelFamily.Plain => "plain",
        _ => throw new ArgumentOutOfRangeException(nameof(family), family, null),
    };

    /// <summary>An element type by its name in <c>common.metal</c>.</summary>
    public static string NameOf(AttentionElementType type) => type switch
    {
        AttentionElementType.Float16 => "half",
        AttentionElementType.BFloat16 => "bfloat_bits",
        _ => "float",
    };

    public static SourceDefinition Define(string name, int value) => new(name, value.ToString(CultureInfo.InvariantCulture));

    private static ImmutableArray<SourceDefinition> Definitions(KernelFamily family, AttentionProblem problem)
    {
        ImmutableArray<SourceDefinition> shared =
        [
            new SourceDefinition("QUERY_T", NameOf(problem.QueryType)),
            new SourceDefinition("KEY_VALUE_T", NameOf(problem.KeyValueType)),
            Define("KEY_DIM", problem.KeyDim),
            Define("VALUE_DIM", problem.ValueDim),
        ];
        switch (family)
        {
            case KernelFamily.Prefill:
                PrefillTile prefill = TileTable.Prefill(problem.KeyDim, problem.ValueDim, problem.KeyValueType)!.Value;
                return shared.AddRange(Define("TILE_KEYS", prefill.Keys), Define("SIMDGROUPS", prefill.Simdgroups));
            case KernelFamily.Decode:
                DecodeTile decode = TileTable.Decode(problem.KeyDim, problem.ValueDim)!.Value;
                return shared.AddRange(Define("LANES", decode.Lanes), Define("ROWS", decode.Rows), Define("SIMDGROUPS", decode.Simdgroups));
            default:
                return shared.Add(Define("SIMDGROUPS", TileTable.PlainSimdgroups));
        }
    }
}
