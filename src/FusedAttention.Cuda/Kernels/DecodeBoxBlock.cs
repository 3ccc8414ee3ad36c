using System.Runtime.InteropServices;

namespace FusedAttention.Cuda.Kernels;

/// <summary>What a decode by boxes reads beside its <see cref="CallBlock"/>, in front of the <see cref="WarpgroupBlock"/>, which a prefill of the same call may have: how the copy unit sees keys and values.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct DecodeBoxBlock
{
    /// <summary>From here on in the parameter. Maps lie at multiples of 64.</summary>
    public const int Offset = WarpgroupBlock.Offset - Bytes;

    /// <summary>Its room.</summary>
    public const int Bytes = 320;

    public TensorMap KeyMap;
    public TensorMap ValueMap;

    /// <inheritdoc cref="WarpgroupBlock.QueryBatches"/>
    public int KeyBatches;

    /// <inheritdoc cref="WarpgroupBlock.QueryBatches"/>
    public int ValueBatches;
}
