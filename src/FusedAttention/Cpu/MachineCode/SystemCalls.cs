using System.Runtime.InteropServices;

namespace FusedAttention.Cpu.MachineCode;

/// <summary>What is asked of Linux, with its numbers on x86-64.</summary>
internal static partial class Linux
{
    public const int Read = 1, Write = 2, Execute = 4;
    public const int Shared = 1, Private = 2, Anonymous = 0x20;
    public const uint CloseOnExec = 1, AllowSealing = 2, Executable = 0x10;
    public const int AddSeals = 1033, SealSeal = 1, SealShrink = 2, SealGrow = 4, SealWrite = 8;

    /// <summary>The call that asks for a register state which programs do not have by default, and the number of that of tiles.</summary>
    public const long ArchPrctl = 158, RequestState = 0x1023, TileData = 18;

    public static nuint RoundToPages(int bytes) => (nuint)((bytes + Environment.SystemPageSize - 1) / Environment.SystemPageSize * Environment.SystemPageSize);

    /// <summary>False, with the call's name and the system's reason.</summary>
    public static bool Refused(string call, out string refusal)
    {
        int error = Marshal.GetLastPInvokeError();
        refusal = $"{call}: {Marshal.GetPInvokeErrorMessage(error)} (error {error})";
        return false;
    }

    [LibraryImport("libc", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    [DefaultDllImportSearchPaths(DllImportSearchPath.SafeDirectories)]
    public static partial int memfd_create(string name, uint flags);

    [LibraryImport("libc", SetLastError = true)]
    [DefaultDllImportSearchPaths(DllImportSearchPath.SafeDirectories)]
    public static partial int ftruncate(int file, long length);

    [LibraryImport("libc", SetLastError = true)]
    [DefaultDllImportSearchPaths(DllImportSearchPath.SafeDirectories)]
    public static partial int fcntl(int file, int command, int argument);

    [LibraryImport("libc", SetLastError = true)]
    [DefaultDllImportSearchPaths(DllImportSearchPath.SafeDirectories)]
    public static partial int close(int file);

    [LibraryImport("libc", SetLastError = true)]
    [DefaultDllImportSearchPaths(DllImportSearchPath.SafeDirectories)]
    public static partial nint mmap(nint address, nuint length, int protection, int flags, int file, long offset);

    [LibraryImport("libc", SetLastError = true)]
    [DefaultDllImportSearchPaths(DllImportSearchPath.SafeDirectories)]
    public static partial int mprotect(nint address, nuint length, int protection);

    [LibraryImport("libc", SetLastError = true)]
    [DefaultDllImportSearchPaths(DllImportSearchPath.SafeDirectories)]
    public static partial int munmap(nint address, nuint length);

    [LibraryImport("libc", SetLastError = true)]
    [DefaultDllImportSearchPaths(DllImportSearchPath.SafeDirectories)]
    public static partial long syscall(long number, long first, long second);
}

/// <summary>What is asked of Windows.</summary>
internal static partial class Windows
{
    public const uint Commit = 0x1000, Reserve = 0x2000, Release = 0x8000;
    public const uint ReadWrite = 0x04, ExecuteRead = 0x20;
    public const nint CurrentProcess = -1;

    [LibraryImport("kernel32", SetLastError = true)]
    [DefaultDllImportSearchPaths(DllImportSearchPath.System32)]
    public static partial nint VirtualAlloc(nint address, nuint size, uint type, uint protection);

    [LibraryImport("kernel32", SetLastError = true)]
    [DefaultDllImportSearchPaths(DllImportSearchPath.System32)]
    [return: MarshalAs(UnmanagedType.Bool)]
    public static partial bool VirtualProtect(nint address, nuint size, uint protection, out uint before);

    [LibraryImport("kernel32", SetLastError = true)]
    [DefaultDllImportSearchPaths(DllImportSearchPath.System32)]
    [return: MarshalAs(UnmanagedType.Bool)]
    public static partial bool VirtualFree(nint address, nuint size, uint type);

    [LibraryImport("kernel32", SetLastError = true)]
    [DefaultDllImportSearchPaths(DllImportSearchPath.System32)]
    [return: MarshalAs(UnmanagedType.Bool)]
    public static partial bool FlushInstructionCache(nint process, nint address, nuint size);
}
