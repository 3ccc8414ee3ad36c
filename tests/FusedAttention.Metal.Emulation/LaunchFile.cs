using System.Text;
using FusedAttention.Metal.Launching;

namespace FusedAttention.Metal.Emulation;

/// <summary>A launch as the emulator's process reads it (<c>memory.c</c>): numbers, then the contents of every memory that it uses.</summary>
internal static class LaunchFile
{
    private const uint Magic = 0x544D4531;

    /// <summary>Writes the file; returns the memories that the kernel may write, in the order in which their contents come back.</summary>
    public static EmulatedMemory[] Write(string path, KernelLaunch launch, EmulatorLibrary library)
    {
        // Two slots may show the same memory: one copy then.
        EmulatedMemory[] memories = [.. launch.Buffers.Select(buffer => (EmulatedMemory)buffer.Memory).Distinct()];
        bool[] written = [.. memories.Select(memory => launch.Buffers.Any(buffer => buffer.IsWritten && buffer.Memory == memory))];
        bool hasParameters = launch.Parameters.Length > 0;
        using var writer = new BinaryWriter(new FileStream(path, FileMode.Create, FileAccess.Write, FileShare.None, 1 << 16));
        writer.Write(Magic);
        writer.Write(Array.FindIndex(library.Kernels, kernel => string.Equals(kernel.Name, launch.Function.Name, StringComparison.Ordinal)));
        WriteName(writer, launch.Function.Name);
        WriteSize(writer, launch.Threadgroups);
        WriteSize(writer, launch.ThreadsPerThreadgroup);
        writer.Write(launch.Function.Constants.Length);
        writer.Write(memories.Length + (hasParameters ? 1 : 0));
        writer.Write(launch.Buffers.Length + (hasParameters ? 1 : 0));
        writer.Write(0);
        foreach (FunctionConstant constant in launch.Function.Constants)
        {
            WriteName(writer, constant.Name);
            writer.Write((ulong)(uint)constant.Bits);
        }

        for (int i = 0; i < memories.Length; i++) WriteMemory(writer, memories[i].Bytes, written[i]);
        if (hasParameters) WriteMemory(writer, launch.Parameters.Length, isWritten: false);
        foreach (BufferBinding buffer in launch.Buffers) WriteBinding(writer, buffer.Index, Array.IndexOf(memories, buffer.Memory), buffer.Offset);
        if (hasParameters) WriteBinding(writer, launch.ParameterIndex, memories.Length, 0);
        foreach (EmulatedMemory memory in memories) WriteContent(writer, memory.Span);
        if (hasParameters) WriteContent(writer, launch.Parameters.AsSpan());
        return [.. memories.Where((_, i) => written[i])];
    }

    /// <summary>Puts what a run wrote into the memories.</summary>
    public static void ReadResults(string path, EmulatedMemory[] memories)
    {
        using var stream = new FileStream(path, FileMode.Open, FileAccess.Read, FileShare.Read, 1);
        foreach (EmulatedMemory memory in memories) stream.ReadExactly(memory.Span);
    }

    private static void WriteName(BinaryWriter writer, string name)
    {
        byte[] bytes = new byte[64];
        if (Encoding.UTF8.GetByteCount(name) >= bytes.Length) throw new MetalEmulationException($"The name {name} has more than 63 characters.");
        Encoding.UTF8.GetBytes(name, bytes);
        writer.Write(bytes);
    }

    private static void WriteSize(BinaryWriter writer, GridSize size)
    {
        writer.Write(size.X);
        writer.Write(size.Y);
        writer.Write(size.Z);
    }

    private static void WriteMemory(BinaryWriter writer, long bytes, bool isWritten)
    {
        writer.Write(bytes);
        writer.Write(isWritten ? 1 : 0);
        writer.Write(0);
    }

    private static void WriteBinding(BinaryWriter writer, int slot, int memory, long offset)
    {
        writer.Write(slot);
        writer.Write(memory);
        writer.Write(offset);
    }

    private static void WriteContent(BinaryWriter writer, ReadOnlySpan<byte> content)
    {
        writer.Write(content);
        for (int i = content.Length; i % 16 != 0; i++) writer.Write((byte)0);
    }
}
