using FusedAttention.Cuda.Emulation.Memory;

namespace FusedAttention.Cuda.Emulation.Machine;

/// <summary>
/// A factor of an asynchronous product in shared memory, by the PTX ISA ("Matrix Descriptor Format", "Shared Memory Matrix Layout" of wgmma): bits 0 to 13 where it begins, 16 to 29 the leading, 32 to 45 the
/// stride byte offset, all in units of 16 bytes, 62 and 63 the swizzle.
/// </summary>
/// <param name="bits">The descriptor.</param>
/// <param name="isTransposed">Whether neighbours in memory are rows of a left factor, or columns of a right one, instead of the shared dimension's elements.</param>
internal readonly struct MatrixDescriptor(ulong bits, bool isTransposed)
{
    private const int ElementBytes = 2;
    private const int ChunkElements = 8;

    private uint Start => (uint)(bits & 0x3FFF) << 4;

    private uint Leading => (uint)(bits >> 16 & 0x3FFF) << 4;

    private uint Stride => (uint)(bits >> 32 & 0x3FFF) << 4;

    private Swizzle Swizzle => (bits >> 62) switch { 1 => Swizzle.Bytes128, 2 => Swizzle.Bytes64, 3 => Swizzle.Bytes32, _ => Swizzle.None };

    /// <summary>What is wrong with it; null where nothing is.</summary>
    public string? Refusal =>
        (bits >> 49 & 7) != 0 ? "a descriptor with a base offset" : isTransposed && Swizzle == Swizzle.None ? "a transposed matrix without a swizzle" : null;

    /// <summary>Chunks of 8 neighbours along the dimension in which they are.</summary>
    /// <param name="row">Of the dimension across: a row or column of the factor, or, transposed, an element of the shared dimension.</param>
    /// <param name="chunk">Of the dimension along: the shared one, or, transposed, rows or columns.</param>
    /// <returns>The address of 16 bytes.</returns>
    public uint AddressOf(int row, int chunk)
    {
        uint span = (uint)TensorMapImage.SpanOf(Swizzle);
        uint address;
        if (Swizzle == Swizzle.None)
        {
            // Core matrices of 8 rows of 16 bytes lie as a whole.
            address = Start + ((uint)(row / 8) * Stride) + ((uint)chunk * Leading) + ((uint)(row % 8) * 16);
        }
        else
        {
            // Rows of the swizzle's width, 8 of them as a pattern. Where the matrix is transposed there may be patterns side by side; otherwise 16 elements of the shared dimension are within one.
            uint chunksOfSpan = isTransposed ? span / (ChunkElements * ElementBytes) : uint.MaxValue;
            address = Start + ((uint)(row / 8) * Stride) + ((uint)(row % 8) * span) + ((uint)chunk / chunksOfSpan * Leading) + ((uint)chunk % chunksOfSpan * 16);
        }

        return TensorMapImage.Swizzled(Swizzle, address);
    }
}
