namespace FusedAttention.Cuda.Ptx;

/// <summary>What the text is assembled for.</summary>
internal enum PtxTarget
{
    /// <summary>Compute capability 8.0 and whatever came later.</summary>
    Sm80,

    /// <summary>Hopper and nothing else.</summary>
    Sm90a,
}
