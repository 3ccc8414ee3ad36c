using System.Runtime.InteropServices;
using FusedAttention.Devices;

namespace FusedAttention.Metal.Emulation;

/// <summary>Memory of this process; each launch gets a copy in memory of its own, with guards on both sides.</summary>
internal sealed unsafe class EmulatedMemory : DeviceMemory
{
    /// <summary>What fresh memory is filled with: NaN as float, half and bfloat, and a large negative integer.</summary>
    public const uint Fresh = 0xFFBAFFBA;

    private readonly bool _isOwner;
    private bool _isDisposed;

    private EmulatedMemory(void* pointer, long bytes, bool isOwner)
        : base(pointer, bytes) => _isOwner = isOwner;

    public static EmulatedMemory Allocate(long bytes)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(bytes);
        void* pointer = NativeMemory.AlignedAlloc((nuint)(bytes + 3) / 4 * 4, 256);
        for (long i = 0; i < (bytes + 3) / 4; i++) ((uint*)pointer)[i] = Fresh;
        return new EmulatedMemory(pointer, bytes, isOwner: true);
    }

    public static EmulatedMemory Wrap(nint pointer, long bytes) => new((void*)pointer, bytes, isOwner: false);

    public Span<byte> Span
    {
        get
        {
            ObjectDisposedException.ThrowIf(_isDisposed, this);
            return new Span<byte>(Pointer, checked((int)Bytes));
        }
    }

    protected override void Dispose(bool disposing)
    {
        if (_isOwner && !_isDisposed) NativeMemory.AlignedFree(Pointer);
        _isDisposed = true;
    }
}
