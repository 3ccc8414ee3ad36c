using System.Collections.Concurrent;
using FusedAttention.Cuda.Kernels;
using FusedAttention.Cuda.Launching;
using FusedAttention.Devices;

namespace FusedAttention.Cuda.Planning;

/// <summary>The attention kernels, specialised. Each is made once in a process, and found by value from then on.</summary>
internal static class KernelLibrary
{
    private static readonly ConcurrentDictionary<Key, KernelFunction> Functions = new();

    /// <param name="kernel">Which.</param>
    /// <param name="traits">What it is specialised for; tiles follow from it.</param>
    public static KernelFunction Of(AttentionKernel kernel, in KernelTraits traits) =>
        Functions.TryGetValue(new(kernel, traits), out KernelFunction? known) ? known : Functions.GetOrAdd(new(kernel, traits), static key => Make(key.Kernel, key.Traits));

    /// <summary>A kernel in a word.</summary>
    public static string NameOf(AttentionKernel kernel) => kernel switch
    {
        AttentionKernel.Prefill => "prefill",
        AttentionKernel.Decode => "decode",
        AttentionKernel.Plain => "plain",
        _ => throw new ArgumentOutOfRangeException(nameof(kernel), kernel, null),
    };

    private static KernelFunction Make(AttentionKernel kernel, KernelTraits traits) => kernel switch
    {
        AttentionKernel.Prefill => Stub("prefill", traits, TileTable.Prefill(traits.KeyDim, traits.ValueDim)!.Value.Threads),
        AttentionKernel.Decode => Stub("decode", traits, TileTable.Decode(traits.KeyDim, traits.ValueDim)!.Value.Threads),
        AttentionKernel.Plain => new("plain", LabelOf("plain", traits), TileTable.Plain.Threads, 0, () => PlainKernel.Write(traits, TileTable.Plain.Warps).ToString()),
        _ => throw new ArgumentOutOfRangeException(nameof(kernel), kernel, null),
    };

    // TODO: PrefillKernel.Function(traits, tile), DecodeKernel.Function(traits, tile).
    private static KernelFunction Stub(string name, in KernelTraits traits, int threads) =>
        new(name, LabelOf(name, traits), threads, 0, static () => throw new NotSupportedException("The kernel's text is not written yet."));

    private static string LabelOf(string name, in KernelTraits traits) =>
        $"{name} {traits.QueryType}{(traits.KeyValueType == traits.QueryType ? "" : $" over {traits.KeyValueType}")} {traits.KeyDim}/{traits.ValueDim}{(traits.BlockSize > 0 ? $" blocks of {traits.BlockSize}" : "")} {traits.Features}";

    private readonly record struct Key(AttentionKernel Kernel, KernelTraits Traits);
}
