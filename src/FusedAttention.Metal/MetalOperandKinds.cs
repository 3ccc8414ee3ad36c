namespace FusedAttention;

/// <summary>
/// Which of the optional tensors of <see cref="MetalOperands"/> a call will have, for <see cref="MetalAttention"/>'s <c>Explain</c> and <c>Prepare</c>: kernels are compiled for what they must look at.
/// </summary>
[Flags]
public enum MetalOperandKinds
{
    /// <summary>None.</summary>
    None = 0,

    /// <summary>A boolean mask.</summary>
    BooleanMask = 1,

    /// <summary>A bias of <see cref="float"/>.</summary>
    BiasFloat32 = 2,

    /// <summary>A bias of <see cref="Half"/>.</summary>
    BiasFloat16 = 4,

    /// <summary>A bias of <see cref="FusedAttention.BFloat16"/>.</summary>
    BiasBFloat16 = 8,

    /// <summary>The log-sum-exp output.</summary>
    LogSumExp = 16,
}
