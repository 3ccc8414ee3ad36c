using System.Diagnostics.CodeAnalysis;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace FusedAttention;

/// <summary>
/// 32 numbers of 8 bits along the head dimension and the scale that they share: number i is <c>Scale * Codes[i]</c>. 34 bytes, scale first, bit-compatible with the <c>q8_0</c> blocks of GGUF files and the engines that
/// read them, so spans of such memory may be reinterpreted.
/// </summary>
/// <remarks>A head of D numbers is D / 32 blocks: keys <c>[batch, keys, kvHeads, D / 32]</c>, strides counted in blocks. D must be a multiple of 32.</remarks>
[StructLayout(LayoutKind.Sequential, Pack = 2, Size = SizeInBytes)]
public struct Q8Block
{
    /// <summary>Numbers of a block: 32.</summary>
    public const int Length = 32;

    /// <summary>Bytes of a block: 34.</summary>
    public const int SizeInBytes = 2 + Length;

    private Half _scale;
    private CodeArray _codes;

    /// <summary>What each code is multiplied with.</summary>
    public Half Scale
    {
        readonly get => _scale;
        set => _scale = value;
    }

    /// <summary>The 32 codes.</summary>
    [UnscopedRef]
    public Span<sbyte> Codes => _codes;

    /// <summary>Number <paramref name="index"/>, exactly.</summary>
    /// <param name="index">From 0 to 31.</param>
    /// <exception cref="IndexOutOfRangeException">There is no such number.</exception>
    public readonly float this[int index] => (float)_scale * ((ReadOnlySpan<sbyte>)_codes)[index];

    [InlineArray(Length)]
    private struct CodeArray
    {
        private sbyte _first;
    }
}
