namespace FusedAttention;

/// <summary>The element types that attention computes on. Sums are always kept in 32 bits.</summary>
public enum AttentionElementType
{
    /// <summary><see cref="float"/>.</summary>
    Float32 = 0,

    /// <summary><see cref="Half"/>: IEEE 754 binary16.</summary>
    Float16 = 1,

    /// <summary><see cref="FusedAttention.BFloat16"/>: the upper half of a <see cref="float"/>.</summary>
    BFloat16 = 2,
}
