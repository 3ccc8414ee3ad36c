using System.Runtime.InteropServices;
using FusedAttention.Devices;

namespace FusedAttention.Cuda.Kernels;

/// <summary>
/// The one parameter of the kernel that writes rows into a paged cache: block x of the grid is a token, y is 0 for its key and 1 for its value. Few slots travel behind it, at
/// <see cref="SlotsBehindBlock"/>.
/// </summary>
[StructLayout(LayoutKind.Sequential)]
internal struct CacheBlock
{
    /// <summary>Where slots begin that travel with the block, from the block's beginning.</summary>
    public const int SlotsBehindBlock = 128;

    /// <summary>New keys and values, <c>[token, head, dim]</c> by the strides of <see cref="Cache"/>.</summary>
    public ulong Keys;
    public ulong Values;

    /// <summary>Scales of new keys and values that are codes already, <c>[token, head]</c>, contiguous.</summary>
    public ulong KeyScales;
    public ulong ValueScales;

    /// <summary>The layer's planes, <c>[slot, head, dim]</c>, contiguous.</summary>
    public ulong KeyCache;
    public ulong ValueCache;

    /// <summary>Its planes of scales, <c>[slot, head]</c>, where the cache is of 8 bits.</summary>
    public ulong KeyScaleCache;
    public ulong ValueScaleCache;

    /// <summary>For each token its slot, <c>block * blockSize + slot in block</c>, as 64-bit numbers; 0: behind this block.</summary>
    public ulong Slots;

    public CacheParameters Cache;
}
