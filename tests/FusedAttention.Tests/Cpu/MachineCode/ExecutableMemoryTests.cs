using FusedAttention.Cpu.MachineCode;
using Xunit;

namespace FusedAttention.Tests.Cpu.MachineCode;

/// <summary>Memory that code runs from: it runs, and it is never writable and executable at once.</summary>
public sealed unsafe class ExecutableMemoryTests
{
    public static TheoryData<string> Ways => [.. ExecutableMemory.OfThisSystem.Select(memory => memory.Name)];

    [Theory]
    [MemberData(nameof(Ways))]
    public void Code_runs(string way)
    {
        Assert.SkipUnless(System.Runtime.Intrinsics.X86.X86Base.X64.IsSupported, "Not an x86-64 process.");
        for (int constant = 1; constant < 200; constant += 66)
        {
            var kernel = new Assembler("constant", CallingConvention.Current);
            kernel.Mov(kernel.Block + 0, constant);
            kernel.Return();
            nint entry = Publish(way, kernel.ToArray());
            long written = 0;
            ((delegate* unmanaged<void*, void>)entry)(&written);
            Assert.Equal(constant, written);
        }
    }

    [Theory]
    [MemberData(nameof(Ways))]
    public void Code_of_many_pages_is_whole(string way)
    {
        byte[] code = new byte[100_001];
        new Random(5).NextBytes(code);
        Assert.Equal(code, new Span<byte>((void*)Publish(way, code), code.Length).ToArray());
    }

    [Theory]
    [MemberData(nameof(Ways))]
    public void Its_pages_are_executable_and_nothing_can_write_them(string way)
    {
        Assert.SkipUnless(OperatingSystem.IsLinux(), "What the system maps is read from /proc.");
        nint entry = Publish(way, [0xC3]);
        (string range, string protection, string file) = Mappings().Single(mapping => Contains(mapping.Range, entry));
        Assert.Equal("r-x", protection[..3]);
        if (!string.Equals(way, "memory mapped twice", StringComparison.Ordinal)) return;

        // The file is mapped nowhere else to be written, and a file with this seal never can be again.
        Assert.Contains("fusedattention", file, StringComparison.Ordinal);
        Assert.DoesNotContain(Mappings(), mapping => mapping.File.Contains("fusedattention", StringComparison.Ordinal) && mapping.Protection.Contains('w', StringComparison.Ordinal));
        Assert.ThrowsAny<Exception>(() =>
        {
            using var file = new FileStream($"/proc/self/map_files/{range}", FileMode.Open, FileAccess.Write);
            file.Write([0xCC]);
            file.Flush(flushToDisk: true);
        });
        Assert.Equal(0xC3, *(byte*)entry);
    }

    private static nint Publish(string way, byte[] code)
    {
        ExecutableMemory memory = ExecutableMemory.OfThisSystem.Single(memory => string.Equals(memory.Name, way, StringComparison.Ordinal));
        Assert.SkipUnless(memory.TryPublish(code, out nint entry, out string refusal), $"The system refuses {way}: {refusal}.");
        Assert.Equal("", refusal);
        return entry;
    }

    private static IEnumerable<(string Range, string Protection, string File)> Mappings() =>
        File.ReadAllLines("/proc/self/maps").Select(line => line.Split(' ', StringSplitOptions.RemoveEmptyEntries)).Select(fields => (fields[0], fields[1], string.Join(' ', fields[5..])));

    private static bool Contains(string range, nint address)
    {
        nint[] ends = [.. range.Split('-').Select(end => nint.Parse(end, System.Globalization.NumberStyles.HexNumber))];
        return address >= ends[0] && address < ends[1];
    }
}
