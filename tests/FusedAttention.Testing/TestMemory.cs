using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Runtime.Versioning;
using Xunit;

namespace FusedAttention.Testing;

/// <summary>What surrounds a test buffer.</summary>
public enum Placement
{
    /// <summary>Patterned margins on both sides, compared afterwards: catches writes on any platform.</summary>
    Margins,

    /// <summary>The buffer ends exactly where an inaccessible page begins: any read or write past its end kills the process.</summary>
    GuardAfter,

    /// <summary>The buffer begins exactly where an inaccessible page ends.</summary>
    GuardBefore,
}

/// <summary>
/// Unmanaged memory for one tensor, filled with a byte before use. The fill 0xFF is NaN in all three element types, so that any element read
/// without right shows in the result; outputs are filled with <see cref="Sentinel"/>, so that any element written without right can be found.
/// </summary>
internal sealed unsafe class TestMemory<T> : IDisposable
    where T : unmanaged
{
    public const byte Poison = 0xFF;
    public const byte Sentinel = 0xA5;
    private const int MarginBytes = 256;

    private readonly byte* _block;
    private readonly nuint _blockBytes;
    private readonly bool _isMapped;

    public TestMemory(long length, Placement placement, byte fill)
    {
        Length = checked((nint)length);
        nuint bytes = (nuint)Length * (nuint)sizeof(T);
        if (placement == Placement.Margins)
        {
            _blockBytes = bytes + (2 * MarginBytes);
            _block = (byte*)NativeMemory.AlignedAlloc(_blockBytes, 64);
            Unsafe.InitBlockUnaligned(_block, Sentinel, MarginBytes);
            Unsafe.InitBlockUnaligned(_block + MarginBytes + bytes, Sentinel, MarginBytes);
            Pointer = (T*)(_block + MarginBytes);
        }
        else
        {
            if (!OperatingSystem.IsLinux()) throw new PlatformNotSupportedException("Guard pages are mapped on Linux only.");
            nuint page = (nuint)Environment.SystemPageSize;
            nuint body = Math.Max(page, (bytes + page - 1) / page * page);
            _blockBytes = body + page;
            _isMapped = true;
            _block = GuardPages.Map(_blockBytes);
            byte* start = placement == Placement.GuardAfter ? _block : _block + page;
            new Span<byte>(start, checked((int)body)).Fill(Poison);
            GuardPages.Forbid(placement == Placement.GuardAfter ? _block + body : _block, page);
            Pointer = (T*)(placement == Placement.GuardAfter ? start + body - bytes : start);
        }

        new Span<byte>(Pointer, checked((int)bytes)).Fill(fill);
    }

    public T* Pointer { get; }

    public nint Length { get; }

    public Span<T> Span => new(Pointer, checked((int)Length));

    public void AssertMarginsUntouched(string name)
    {
        if (_isMapped) return;
        var before = new ReadOnlySpan<byte>(_block, MarginBytes);
        var after = new ReadOnlySpan<byte>(_block + _blockBytes - MarginBytes, MarginBytes);
        if (before.ContainsAnyExcept(Sentinel) || after.ContainsAnyExcept(Sentinel)) Assert.Fail($"{name}: memory beside the buffer was written.");
    }

    public void Dispose()
    {
        if (!_isMapped) NativeMemory.AlignedFree(_block);
        else if (OperatingSystem.IsLinux()) GuardPages.Unmap(_block, _blockBytes);
    }
}

/// <summary>Pages that the processor refuses to touch.</summary>
[SupportedOSPlatform("linux")]
internal static unsafe partial class GuardPages
{
    private const int ReadWrite = 1 | 2;
    private const int PrivateAnonymous = 2 | 0x20;

    public static byte* Map(nuint bytes)
    {
        nint address = mmap(0, bytes, ReadWrite, PrivateAnonymous, -1, 0);
        return address == -1 ? throw new InvalidOperationException($"mmap of {bytes} bytes failed: error {Marshal.GetLastPInvokeError()}.") : (byte*)address;
    }

    public static void Forbid(byte* address, nuint bytes)
    {
        if (mprotect((nint)address, bytes, 0) != 0) throw new InvalidOperationException($"mprotect failed: error {Marshal.GetLastPInvokeError()}.");
    }

    public static void Unmap(byte* address, nuint bytes)
    {
        if (munmap((nint)address, bytes) != 0) throw new InvalidOperationException($"munmap failed: error {Marshal.GetLastPInvokeError()}.");
    }

    [LibraryImport("libc", SetLastError = true)]
    [DefaultDllImportSearchPaths(DllImportSearchPath.SafeDirectories)]
    private static partial nint mmap(nint address, nuint length, int protection, int flags, int file, nint offset);

    [LibraryImport("libc", SetLastError = true)]
    [DefaultDllImportSearchPaths(DllImportSearchPath.SafeDirectories)]
    private static partial int mprotect(nint address, nuint length, int protection);

    [LibraryImport("libc", SetLastError = true)]
    [DefaultDllImportSearchPaths(DllImportSearchPath.SafeDirectories)]
    private static partial int munmap(nint address, nuint length);
}
