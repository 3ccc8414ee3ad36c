namespace FusedAttention;

/// <summary>The element types that attention computes on. Sums are always kept in 32 bits. Those of 8 bits are for keys and values, on the CPU and, but for blocks, on NVIDIA GPUs.</summary>
public enum AttentionElementType
{
    /// <summary><see cref="float"/>.</summary>
    Float32 = 0,

    /// <summary><see cref="Half"/>: IEEE 754 binary16.</summary>
    Float16 = 1,

    /// <summary><see cref="FusedAttention.BFloat16"/>: the upper half of a <see cref="float"/>.</summary>
    BFloat16 = 2,

    /// <summary><see cref="sbyte"/>: whole numbers, for keys and values, with scales beside them (<see cref="AttentionOperands.KeyScale"/>).</summary>
    Int8 = 3,

    /// <summary><see cref="FusedAttention.Float8E4M3"/>: 4 bits of exponent, 3 of fraction, for keys and values, with scales beside them.</summary>
    Float8E4M3 = 4,

    /// <summary><see cref="FusedAttention.Q8Block"/>: 32 whole numbers and their scale, for keys and values.</summary>
    Q8Block = 5,
}
