using System.Runtime.CompilerServices;
using FusedAttention.Cuda.Emulation.Memory;
using FusedAttention.Cuda.Emulation.Programs;

namespace FusedAttention.Cuda.Emulation.Machine;

/// <content>Device memory, as memcheck and initcheck see it.</content>
internal sealed unsafe partial class Warp
{
    /// <summary>The address of a kernel's parameters, for loads that name no space.</summary>
    public const ulong ParameterWindow = 1UL << 56;

    /// <summary>That of shared memory.</summary>
    public const ulong SharedWindow = 1UL << 57;

    /// <summary>Where bytes lie that are read: in one allocation, and all of them written before.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public byte* GlobalRead(Instruction* i, int lane, ulong address, int bytes, int alignment)
    {
        ulong at = GlobalAt(i, lane, address, bytes, alignment, "reads", out Allocation allocation);
        if (!IsWritten(allocation.Written + at, bytes)) FailUnwritten(i, lane, allocation, at, bytes);
        return allocation.Pointer + at;
    }

    /// <summary>Where bytes lie that are written.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public byte* GlobalWrite(Instruction* i, int lane, ulong address, int bytes)
    {
        ulong at = GlobalAt(i, lane, address, bytes, bytes, "writes", out Allocation allocation);
        new Span<byte>(allocation.Written + at, bytes).Fill(1);
        return allocation.Pointer + at;
    }

    /// <summary>Where bytes lie that a load without a space reads: a kernel's parameters, shared or device memory.</summary>
    public byte* AnyRead(Instruction* i, int lane, ulong address, int bytes)
    {
        if (address < ParameterWindow) return GlobalRead(i, lane, address, bytes, bytes);
        if (address >= SharedWindow) return Block.Shared.Read(this, i, lane, (uint)(address - SharedWindow), bytes);
        return Parameter(i, lane, (long)(address - ParameterWindow), bytes);
    }

    public byte* AnyWrite(Instruction* i, int lane, ulong address, int bytes)
    {
        if (address < ParameterWindow) return GlobalWrite(i, lane, address, bytes);
        if (address >= SharedWindow) return Block.Shared.Write(this, i, lane, (uint)(address - SharedWindow), bytes);
        throw Fail(i, lane, "writes into the kernel's parameters");
    }

    /// <summary>Where bytes of the kernel's parameters lie.</summary>
    public byte* Parameter(Instruction* i, int lane, long offset, int bytes)
    {
        LaunchState launch = Block.Launch;
        if (offset < 0 || offset + bytes > Program.Text.ParameterBytes) throw Fail(i, lane, $"reads {bytes} bytes at {offset} of the kernel's {Program.Text.ParameterBytes} bytes of parameters");
        if (offset + bytes > launch.ParameterBytes) throw Fail(i, lane, $"reads {bytes} bytes at {offset} of parameters, of which the launch has given {launch.ParameterBytes}");
        if (offset % bytes != 0) throw Fail(i, lane, $"reads {bytes} bytes at {offset} of the kernel's parameters, which is no multiple of {bytes}");
        return launch.Parameters + offset;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static bool IsWritten(byte* written, int bytes) => bytes switch
    {
        16 => *(ulong*)written == 0x0101010101010101 && *(ulong*)(written + 8) == 0x0101010101010101,
        8 => *(ulong*)written == 0x0101010101010101,
        4 => *(uint*)written == 0x01010101,
        2 => *(ushort*)written == 0x0101,
        1 => *written == 1,
        _ => new ReadOnlySpan<byte>(written, bytes).IndexOf((byte)0) < 0,
    };

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private ulong GlobalAt(Instruction* i, int lane, ulong address, int bytes, int alignment, string does, out Allocation allocation)
    {
        Allocation? recent = Recent[i->Index];
        if (recent is null || address - recent.Start >= (ulong)recent.Bytes) recent = Recent[i->Index] = Block.Launch.Space.Find(address);
        if (recent is null || recent.IsFreed || address - recent.Start + (ulong)bytes > (ulong)recent.Bytes || (address & (ulong)(alignment - 1)) != 0) throw FailGlobal(i, lane, address, bytes, alignment, does);
        allocation = recent;
        return address - recent.Start;
    }

    private CudaEmulationException FailGlobal(Instruction* i, int lane, ulong address, int bytes, int alignment, string does) => Fail(
        i, lane, (address & (ulong)(alignment - 1)) != 0
            ? $"{does} {bytes} bytes of device memory at 0x{address:x}, which is no multiple of {alignment}"
            : $"{does} {bytes} bytes of device memory at 0x{address:x}: {Block.Launch.Space.Describe(address)}");

    private void FailUnwritten(Instruction* i, int lane, Allocation allocation, ulong at, int bytes) =>
        throw Fail(i, lane, $"reads {bytes} bytes of device memory at 0x{allocation.Start + at:x} that nobody has written, {at} bytes into {allocation}");
}
