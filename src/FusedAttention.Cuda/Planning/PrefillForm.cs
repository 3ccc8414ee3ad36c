using System.Globalization;

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

    /// <summary>Has waits trap that take too long, in all kernels of the process.</summary>
    private const string PollsVariable = "FUSEDATTENTION_CUDA_POLLS";

    /// <summary>The name of <see cref="PrefillForm.Warps"/>.</summary>
    public const string WarpsName = "mma";

    /// <summary>The name of <see cref="PrefillForm.Warpgroups"/>.</summary>
    public const string WarpgroupsName = "wgmma";

    /// <summary>Warpgroups, where device and call have them: on an H100 1.4 to 3.0 times as fast as warps (fp16, 1k to 16k).</summary>
    public static PrefillForm Default { get; } = ProcessChoice.Of(Variable, $"{WarpsName} or {WarpgroupsName}", Of) ?? PrefillForm.Warpgroups;

    /// <summary>How often a wait of warpgroups looks until it traps, for finding what hangs; 0: for ever.</summary>
    public static int MostPolls { get; } = int.TryParse(Environment.GetEnvironmentVariable(PollsVariable), NumberStyles.None, CultureInfo.InvariantCulture, out int polls) ? polls : 0;

    /// <summary>A form by its name; null for another name.</summary>
    public static PrefillForm? Of(string name) => name switch
    {
        WarpsName => PrefillForm.Warps,
        WarpgroupsName => PrefillForm.Warpgroups,
        _ => null,
    };
}
