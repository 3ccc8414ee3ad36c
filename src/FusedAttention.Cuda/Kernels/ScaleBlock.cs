using System.Runtime.InteropServices;
using FusedAttention.Devices;

namespace FusedAttention.Cuda.Kernels;

/// <summary>Scales of 8-bit keys, or of values, in a <see cref="CallBlock"/>.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct ScaleBlock
{
    /// <summary>Address of the first; 0 without scales.</summary>
    public ulong First;

    /// <summary>Where the others lie.</summary>
    public ScaleStrides Strides;
}
