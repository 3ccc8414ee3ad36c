using System.Runtime.InteropServices;
using System.Runtime.Versioning;

namespace FusedAttention.Cpu.MachineCode;

/// <summary>A way to memory that code runs from. It is written first and executable afterwards, never both; nothing takes it back, because a call may be in it.</summary>
internal abstract class ExecutableMemory
{
    /// <summary>How it comes about, for explanations.</summary>
    public abstract string Name { get; }

    /// <summary>The ways of this operating system, best first; none where none is known to be allowed.</summary>
    public static ExecutableMemory[] OfThisSystem { get; } =
        OperatingSystem.IsLinux() ? [new MappedTwice(), new LinuxProtected()] : OperatingSystem.IsWindows() ? [new WindowsProtected()] : [];

    /// <summary>Puts code where it can be called.</summary>
    /// <param name="code">The code.</param>
    /// <param name="address">Where it is.</param>
    /// <param name="refusal">Why it is not, if it is not.</param>
    public abstract bool TryPublish(ReadOnlySpan<byte> code, out nint address, out string refusal);
}

/// <summary>
/// A file in memory, mapped to be written, unmapped, sealed against writing, and mapped again to be executed. The protection of no page ever changes, so that it passes where the kernel forbids that (<c>PR_SET_MDWE</c>).
/// </summary>
[SupportedOSPlatform("linux")]
internal sealed unsafe class MappedTwice : ExecutableMemory
{
    public override string Name => "memory mapped twice";

    public override bool TryPublish(ReadOnlySpan<byte> code, out nint address, out string refusal)
    {
        address = 0;
        try
        {
            // Kernels that know the flag for executable files want it; older ones refuse it.
            int file = Linux.memfd_create("fusedattention", Linux.CloseOnExec | Linux.AllowSealing | Linux.Executable);
            if (file < 0) file = Linux.memfd_create("fusedattention", Linux.CloseOnExec | Linux.AllowSealing);
            if (file < 0) return Linux.Refused("memfd_create", out refusal);
            try
            {
                nuint size = Linux.RoundToPages(code.Length);
                if (Linux.ftruncate(file, (long)size) != 0) return Linux.Refused("ftruncate", out refusal);
                nint writable = Linux.mmap(0, size, Linux.Read | Linux.Write, Linux.Shared, file, 0);
                if (writable == -1) return Linux.Refused("mmap to write", out refusal);
                code.CopyTo(new Span<byte>((void*)writable, (int)size));
                if (Linux.munmap(writable, size) != 0) return Linux.Refused("munmap", out refusal);
                if (Linux.fcntl(file, Linux.AddSeals, Linux.SealSeal | Linux.SealShrink | Linux.SealGrow | Linux.SealWrite) != 0) return Linux.Refused("sealing", out refusal);
                nint executable = Linux.mmap(0, size, Linux.Read | Linux.Execute, Linux.Shared, file, 0);
                if (executable == -1) return Linux.Refused("mmap to execute", out refusal);
                address = executable;
                refusal = "";
                return true;
            }
            finally
            {
                _ = Linux.close(file);
            }
        }
        catch (Exception e) when (e is DllNotFoundException or EntryPointNotFoundException)
        {
            refusal = e.Message;
            return false;
        }
    }
}

/// <summary>Memory whose protection changes from writable to executable.</summary>
[SupportedOSPlatform("linux")]
internal sealed unsafe class LinuxProtected : ExecutableMemory
{
    public override string Name => "memory made executable";

    public override bool TryPublish(ReadOnlySpan<byte> code, out nint address, out string refusal)
    {
        address = 0;
        try
        {
            nuint size = Linux.RoundToPages(code.Length);
            nint memory = Linux.mmap(0, size, Linux.Read | Linux.Write, Linux.Private | Linux.Anonymous, -1, 0);
            if (memory == -1) return Linux.Refused("mmap", out refusal);
            code.CopyTo(new Span<byte>((void*)memory, (int)size));
            if (Linux.mprotect(memory, size, Linux.Read | Linux.Execute) != 0)
            {
                bool refused = Linux.Refused("mprotect to execute", out refusal);
                _ = Linux.munmap(memory, size);
                return refused;
            }

            address = memory;
            refusal = "";
            return true;
        }
        catch (Exception e) when (e is DllNotFoundException or EntryPointNotFoundException)
        {
            refusal = e.Message;
            return false;
        }
    }
}

/// <summary>The same on Windows; a process with a policy against generated code gets error 1655. Written by the documentation, run on no machine yet.</summary>
[SupportedOSPlatform("windows")]
internal sealed unsafe class WindowsProtected : ExecutableMemory
{
    private const int DynamicCodeBlocked = 1655;

    public override string Name => "memory made executable";

    public override bool TryPublish(ReadOnlySpan<byte> code, out nint address, out string refusal)
    {
        nuint size = (nuint)code.Length;
        address = Windows.VirtualAlloc(0, size, Windows.Commit | Windows.Reserve, Windows.ReadWrite);
        if (address == 0) return Refused("VirtualAlloc", out refusal);
        code.CopyTo(new Span<byte>((void*)address, code.Length));
        if (!Windows.VirtualProtect(address, size, Windows.ExecuteRead, out _) || !Windows.FlushInstructionCache(Windows.CurrentProcess, address, size))
        {
            bool refused = Refused("VirtualProtect", out refusal);
            _ = Windows.VirtualFree(address, 0, Windows.Release);
            address = 0;
            return refused;
        }

        refusal = "";
        return true;
    }

    private static bool Refused(string call, out string refusal)
    {
        int error = Marshal.GetLastPInvokeError();
        refusal = error == DynamicCodeBlocked ? $"{call}: this process may not generate code (error {error})" : $"{call}: {Marshal.GetPInvokeErrorMessage(error)} (error {error})";
        return false;
    }
}
