using FusedAttention.Devices;

namespace FusedAttention.Cuda.Planning;

/// <summary>What items of a decode take of a sequence's keys, where that is not left to the plan: for timing one beside the other.</summary>
internal static class DecodeItems
{
    /// <summary>Names it for all calls of the process: <c>whole</c> sequences, <c>groups</c> or <c>splits</c>.</summary>
    public const string Variable = "FUSEDATTENTION_CUDA_DECODE";

    /// <summary>Null: what the plan finds fastest.</summary>
    public static ItemKeys? Default { get; } = ProcessChoice.Of(Variable, "whole, groups or splits", Of);

    /// <summary>By its name; null for another name.</summary>
    public static ItemKeys? Of(string name) => name switch
    {
        "whole" => ItemKeys.All,
        "groups" => ItemKeys.Group,
        "splits" => ItemKeys.Split,
        _ => null,
    };
}
