using System.Runtime.InteropServices;

namespace FusedAttention.Devices;

/// <summary>Writing a paged cache, as the kernels read it: strides of new tokens in elements, and what a slot holds.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct CacheParameters
{
    public long KeyTokenStride;
    public long KeyHeadStride;
    public long ValueTokenStride;
    public long ValueHeadStride;
    public int Heads;
    public int KeyDim;
    public int ValueDim;
    public int Reserved;
}

/// <summary>Slots of a cache to copy from one block to another: slot s of block b is number b * blockSize + s.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct SlotCopy
{
    public long From;
    public long To;
    public long Slots;
}
