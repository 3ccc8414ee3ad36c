using System.Runtime.CompilerServices;

namespace FusedAttention.Cuda.Kernels;

/// <summary>Where a parameter block's fields lie, asked of the block itself.</summary>
/// <typeparam name="TBlock">The block, which holds numbers only.</typeparam>
internal static class BlockFields<TBlock>
    where TBlock : unmanaged
{
    private static TBlock s_block;

    /// <summary>A block to name fields of; what it holds means nothing.</summary>
    public static ref TBlock Block => ref s_block;

    /// <summary>The offset of a field of <see cref="Block"/>, in bytes.</summary>
    public static int OffsetOf<TField>(ref TField field) =>
        (int)Unsafe.ByteOffset(ref Unsafe.As<TBlock, byte>(ref s_block), ref Unsafe.As<TField, byte>(ref field));
}
