using FusedAttention.Cuda.Emulation.Programs;
using Xunit;

namespace FusedAttention.Cuda.Tests.Emulation;

/// <summary>The kernels on file are what the emulator knows.</summary>
public sealed class SnapshotProgramTests
{
    public static TheoryData<string> Kernels => [.. Directory.EnumerateFiles(Folder, "*.ptx").Select(static file => Path.GetFileNameWithoutExtension(file)).Order(StringComparer.Ordinal)];

    private static string Folder => Path.Combine(ReferenceData.Root, "tests", "FusedAttention.Cuda.Tests", "Snapshots");

    [Theory]
    [MemberData(nameof(Kernels))]
    public void Kernels_on_file_decode_into_few_rows(string name)
    {
        string text = File.ReadAllText(Path.Combine(Folder, name + ".ptx"));
        string entry = text.Split(".visible .entry ", 2)[1].Split('(', 2)[0];
        KernelProgram program = KernelProgram.Load(text, entry, name);
        Assert.True(program.Length > 10, name);

        // Thousands of registers share rows; and nothing is read that no path has written, but what loops carry, and what is written and read under the same guard.
        Assert.InRange(program.Registers.Bytes, 1, 256 * RegisterAllocation.RowBytes);
        Assert.True(program.Registers.Unwritten.Count <= 16, $"{name}: {string.Join(' ', program.Registers.Unwritten.Select(static register => register.Name))} may be read before they are written");
    }
}
