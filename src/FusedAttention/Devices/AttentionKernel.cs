namespace FusedAttention.Devices;

/// <summary>The kernels that a sequence can get, in the order in which a plan runs them.</summary>
internal enum AttentionKernel
{
    /// <summary>Blocks of rows over tiles of keys, products by the device's matrix units.</summary>
    Prefill,

    /// <summary>Any dimensions and every feature, and nothing else to be said for it.</summary>
    Plain,

    /// <summary>Few rows over keys that are split among groups of threads.</summary>
    Decode,
}
