using System.Runtime.InteropServices;

namespace FusedAttention.Cuda.Launching;

/// <summary>A tensor of 16-bit elements as the device's copy unit is told of it: four dimensions, innermost first, and the box that one copy moves. Rows of a box are swizzled by 128 bytes; what lies outside is zero.</summary>
/// <param name="Address">A multiple of 16.</param>
/// <param name="IsBFloat16">Whether elements are bfloat16, else binary16.</param>
/// <param name="Length0">Elements side by side.</param>
/// <param name="Length1">Of the second dimension.</param>
/// <param name="Length2">Of the third.</param>
/// <param name="Length3">Of the fourth.</param>
/// <param name="Stride1">Bytes from an element of the second dimension to the next one: a multiple of 16 below 2^40. Dimensions may lie in any order, and through each other.</param>
/// <param name="Stride2">Of the third.</param>
/// <param name="Stride3">Of the fourth.</param>
/// <param name="Box0">Elements of a box side by side: 64, which is 128 bytes.</param>
/// <param name="Box1">Along the second dimension, up to 256.</param>
/// <param name="Box2">Along the third, up to 256.</param>
[StructLayout(LayoutKind.Auto)]
internal readonly record struct TensorMapShape(
    ulong Address, bool IsBFloat16, long Length0, long Length1, long Length2, long Length3, long Stride1, long Stride2, long Stride3, int Box0, int Box1, int Box2)
{
    /// <summary>Elements of a dimension, at most.</summary>
    public const long MostLength = 1L << 32;

    /// <summary>Strides are below.</summary>
    public const long StrideLimit = 1L << 40;

    /// <summary>Elements of a box along a dimension, at most.</summary>
    public const int MostBox = 256;

    /// <summary>Bytes of what the driver makes of it.</summary>
    public const int MapBytes = 128;
}
