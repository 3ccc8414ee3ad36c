using FusedAttention.Cuda.Kernels;

namespace FusedAttention.Cuda.Planning;

/// <summary>Who brings a decode block its keys and values: the two forms of the decode kernel, of which no bit shows which.</summary>
internal enum DecodeCopies
{
    /// <summary>Its warps (<c>cp.async</c>, <see cref="CopyDecodeKernel"/>): any device since compute capability 8.0.</summary>
    Async,

    /// <summary>The copy unit (TMA, <see cref="BoxDecodeKernel"/>): compute capability 9.0.</summary>
    Boxes,
}

/// <summary>Which form calls get where both take them: for timing one beside the other.</summary>
internal static class DecodeCopiesForms
{
    /// <summary>Names a form for all calls of the process: <c>async</c> or <c>tma</c>.</summary>
    public const string Variable = "FUSEDATTENTION_CUDA_DECODE_COPIES";

    /// <summary>The copy unit's is ahead by 1 to 4 % wherever reading takes the time (H100).</summary>
    public static DecodeCopies Default { get; } = ProcessChoice.Of(Variable, "async or tma", Of) ?? DecodeCopies.Boxes;

    /// <summary>A form by its name; null for another name.</summary>
    public static DecodeCopies? Of(string name) => name switch
    {
        "async" => DecodeCopies.Async,
        "tma" => DecodeCopies.Boxes,
        _ => null,
    };
}
