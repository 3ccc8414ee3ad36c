namespace FusedAttention;

/// <summary>
/// Which of the optional tensors a call will have, and on a GPU how its tensors may lie, for what happens before there are tensors: <c>Explain</c> and <c>Prepare</c>. Kernels are compiled for what they
/// must look at.
/// </summary>
[Flags]
public enum OperandKinds
{
    /// <summary>None; query, key and value begin at multiples of 16 bytes.</summary>
    None = 0,

    /// <summary>A boolean mask.</summary>
    BooleanMask = 1,

    /// <summary>A bias of <see cref="float"/>.</summary>
    BiasFloat32 = 2,

    /// <summary>A bias of <see cref="Half"/>.</summary>
    BiasFloat16 = 4,

    /// <summary>A bias of <see cref="BFloat16"/>.</summary>
    BiasBFloat16 = 8,

    /// <summary>A log-sum-exp output.</summary>
    LogSumExp = 16,

    /// <summary>
    /// Query, key or value may be a part of another tensor that begins at no multiple of 16 bytes. Vectors cannot be loaded then, which is another kernel: <c>Prepare</c> compiles both,
    /// <c>Explain</c> tells of the slower one.
    /// </summary>
    Unaligned = 32,

    /// <summary>Scales of 8-bit keys.</summary>
    KeyScale = 64,

    /// <summary>Scales of 8-bit values.</summary>
    ValueScale = 128,

    /// <summary>
    /// Beside a type of the bias, without which it is an <see cref="ArgumentException"/>: it has one row for all queries and for all query heads of a key/value head, <c>[.., 1, 1, keys]</c>, or <c>[.., heads, 1, keys]</c> where each
    /// query head has keys of its own. NVIDIA GPUs of compute capability 9.0 have a kernel for that, with the same bits.
    /// </summary>
    BiasOfKeys = 256,
}
