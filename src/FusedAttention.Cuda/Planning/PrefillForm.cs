using FusedAttention.Devices;

namespace FusedAttention.Cuda.Planning;

/// <summary>The two writings of the prefill kernel.</summary>
internal enum PrefillForm
{
    /// <summary>Products of single warps (<c>mma.sync</c>): any device since compute capability 8.0.</summary>
    Warps,

    /// <summary>Products of warpgroups on boxes that the copy unit brings (<c>wgmma</c>, TMA): compute capability 9.0a.</summary>
    Warpgroups,
}

/// <summary>Which form calls get where both take them.</summary>
internal static class PrefillForms
{
    /// <summary>Names a form for all calls of the process: <c>mma</c> or <c>wgmma</c>.</summary>
    public const string Variable = "FUSEDATTENTION_CUDA_PREFILL";

    /// <summary>Products of warps as long as those of warpgroups have not passed the tests of this backend on a card.</summary>
    public static PrefillForm Default { get; } = Environment.GetEnvironmentVariable(Variable) switch
    {
        "wgmma" => PrefillForm.Warpgroups,
        null or "" or "mma" => PrefillForm.Warps,
        string other => throw new PlatformNotSupportedException($"{Variable} is '{other}'; expected mma or wgmma."),
    };
}
