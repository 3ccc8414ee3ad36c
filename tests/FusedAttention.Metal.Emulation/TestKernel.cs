using System.Runtime.InteropServices;
using FusedAttention.Devices;
using FusedAttention.Metal.Launching;
using Xunit;

namespace FusedAttention.Metal.Emulation;

/// <summary>A kernel that a test brings along, behind the library's own <c>common.metal</c>, and the memory for a launch of it.</summary>
internal sealed class TestKernel : IDisposable
{
    private readonly EmulatedRuntime _runtime;
    private readonly List<BufferBinding> _buffers = [];
    private readonly List<FunctionConstant> _constants = [];
    private byte[] _parameters = [];
    private int _parameterSlot;

    public TestKernel(string text, EmulatorFlavour flavour = EmulatorFlavour.Plain, params string[] orders)
    {
        Assert.SkipWhen(EmulatorToolchain.SkipReason is not null, EmulatorToolchain.SkipReason ?? "");
        Text = TextOf(text);
        _runtime = orders.Length == 0 ? new EmulatedRuntime(flavour) { Source = _ => Text } : new EmulatedRuntime(flavour) { Source = _ => Text, Orders = [.. orders] };
    }

    public string Text { get; }

    /// <summary>The whole text of a library with this body.</summary>
    public static string TextOf(string body) => $"{KernelSource.File(KernelSource.Includes)}{KernelSource.File("common.metal")}#line 1 \"test.metal\"\n{body}\n";

    public TestKernel Input<T>(int slot, params ReadOnlySpan<T> values)
        where T : unmanaged
    {
        DeviceMemory memory = _runtime.Allocate(values.Length * Marshal.SizeOf<T>());
        values.CopyTo(MemoryMarshal.Cast<byte, T>(((EmulatedMemory)memory).Span));
        _buffers.Add(new BufferBinding(slot, memory, 0, IsWritten: false));
        return this;
    }

    public TestKernel Output<T>(int slot, int count)
        where T : unmanaged
    {
        _buffers.Add(new BufferBinding(slot, _runtime.Allocate(count * Marshal.SizeOf<T>()), 0, IsWritten: true));
        return this;
    }

    public TestKernel Constant(int index, string name, FunctionConstantType type, int bits)
    {
        _constants.Add(new FunctionConstant(index, name, type, bits));
        return this;
    }

    public TestKernel Parameters(int slot, params byte[] bytes)
    {
        (_parameterSlot, _parameters) = (slot, bytes);
        return this;
    }

    /// <summary>Changes a binding: what a host could get wrong.</summary>
    public TestKernel Rebind(int slot, Func<BufferBinding, BufferBinding> change)
    {
        int index = _buffers.FindIndex(buffer => buffer.Index == slot);
        _buffers[index] = change(_buffers[index]);
        return this;
    }

    public TestKernel Run(string name, int threads, int groups = 1) => Run(name, new GridSize((uint)threads, 1, 1), new GridSize((uint)groups, 1, 1));

    public TestKernel Run(string name, GridSize threads, GridSize groups)
    {
        var function = new KernelFunction(KernelFamily.Plain, name, [], [.. _constants]);
        _runtime.Wait(_runtime.Submit([new KernelLaunch(function, [.. _buffers], _parameterSlot, _parameters, groups, threads)]));
        return this;
    }

    /// <summary>Runs and asserts that the emulator refuses with a message that has these words.</summary>
    public string Fails(string name, int threads, params ReadOnlySpan<string> words)
    {
        string message = Assert.Throws<MetalEmulationException>(() => Run(name, threads)).Message;
        foreach (string word in words) Assert.True(message.Contains(word, StringComparison.Ordinal), $"\"{word}\" is not in: {message}");
        return message;
    }

    public T[] Read<T>(int slot)
        where T : unmanaged =>
        MemoryMarshal.Cast<byte, T>(((EmulatedMemory)_buffers.First(buffer => buffer.Index == slot).Memory).Span).ToArray();

    public void Dispose()
    {
        foreach (BufferBinding buffer in _buffers) buffer.Memory.Dispose();
        _runtime.Dispose();
    }
}
