using System.Diagnostics.CodeAnalysis;
using System.Runtime.CompilerServices;
using FusedAttention.Devices;
using FusedAttention.Metal.Memory;

namespace FusedAttention.Metal.Calls;

/// <summary>
/// The tensors of one call: all of one device, none disposed, each held from <see cref="Add"/> until <see cref="Dispose"/>, which comes when the call is queued and the memory knows of it.
/// </summary>
internal struct CallUses : IDisposable
{
    /// <summary>Query, key, value, output, mask, bias, log-sum-exp, two of scales, and the tables of functions.</summary>
    private const int Most = 9 + FunctionCaptures.MostTables;

    private Uses _uses;
    private int _count;

    public CallUses(MetalDevice device) => Device = device;

    public MetalDevice Device { get; }

    [UnscopedRef]
    public readonly ReadOnlySpan<MemoryUse> All => ((ReadOnlySpan<MemoryUse>)_uses)[.._count];

    /// <param name="tensor">A tensor of the call.</param>
    /// <param name="name">The caller's name for it.</param>
    /// <param name="argument">The parameter that it came in.</param>
    /// <param name="isWritten">Whether the call writes it.</param>
    /// <returns>Where its first element lies.</returns>
    /// <exception cref="ArgumentException">The tensor belongs to another device.</exception>
    /// <exception cref="ObjectDisposedException">The tensor is disposed.</exception>
    public MemoryPlace Add(MetalTensor tensor, string name, string argument, bool isWritten = false)
    {
        if (tensor.Device != Device) throw new ArgumentException($"{name} is a tensor of {tensor.Device}, but the call's first tensor is of {Device}; one call works on one device.", argument);
        tensor.Memory.Hold();
        _uses[_count++] = new(tensor.Memory, isWritten);
        return new(tensor.Memory.Memory, tensor.Offset);
    }

    /// <param name="memory">Of a table that the call's functions look up.</param>
    /// <returns>Where it lies.</returns>
    public DeviceMemory AddTable(SharedMemory memory)
    {
        memory.Hold();
        _uses[_count++] = new(memory, IsWritten: false);
        return memory.Memory;
    }

    public void Dispose()
    {
        foreach (MemoryUse use in All) use.Memory.DangerousRelease();
        this = default;
    }

    [InlineArray(Most)]
    private struct Uses
    {
        private MemoryUse _first;
    }
}
