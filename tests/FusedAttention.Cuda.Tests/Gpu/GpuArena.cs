using System.Buffers;
using System.Runtime.InteropServices;
using FusedAttention.Cuda.Launching;
using FusedAttention.Cuda.Memory;
using FusedAttention.Devices;
using Xunit;

namespace FusedAttention.Cuda.Tests.Gpu;

/// <summary>
/// Device memory for the tensors of one call at a time, each between margins of NaN. All of it goes to the device in one copy, and comes back in one: a byte that no kernel had a right to write shows.
/// </summary>
internal sealed unsafe class GpuArena(CudaDevice device, CudaStream stream) : IDisposable
{
    private const int MarginBytes = 256;

    private readonly List<(string Name, long Offset, long Bytes, bool IsWritten)> _tensors = [];
    private CudaTensor<byte>? _memory;
    private byte* _host;
    private byte* _returned;
    private long _capacity;
    private long _used;

    /// <summary>The allocation, for the one who queues work on it.</summary>
    public TensorMemory Memory => _memory!.Memory;

    /// <summary>Forgets what was there, and makes room.</summary>
    /// <param name="bytes">Of all tensors together.</param>
    /// <param name="tensors">How many there are at most.</param>
    public void Begin(long bytes, int tensors)
    {
        _tensors.Clear();
        _used = 0;
        long needed = bytes + (tensors * 4L * MarginBytes);
        if (needed <= _capacity) return;
        Free();
        _capacity = Math.Max(1 << 20, needed + (needed / 2));
        _memory = device.Allocate<byte>((nint)_capacity);
        _host = (byte*)NativeMemory.Alloc((nuint)_capacity);
        _returned = (byte*)NativeMemory.Alloc((nuint)_capacity);
    }

    /// <summary>Takes a tensor's bytes, from its first element to its last.</summary>
    /// <param name="name">For messages.</param>
    /// <param name="source">On the host.</param>
    /// <param name="bytes">How many.</param>
    /// <param name="isWritten">Whether the call writes it.</param>
    /// <param name="shift">Bytes by which it misses a multiple of 256.</param>
    /// <returns>Its number.</returns>
    public int Add(string name, void* source, long bytes, bool isWritten, int shift = 0)
    {
        long begin = ((_used + MarginBytes + 255) & -256) + shift;
        long end = begin + bytes + MarginBytes;
        Assert.True(end <= _capacity, $"{name} has no room: {end} of {_capacity} bytes.");
        new Span<byte>(_host + _used, (int)(end - _used)).Fill(0xFF);
        Buffer.MemoryCopy(source, _host + begin, bytes, bytes);
        _tensors.Add((name, begin, bytes, isWritten));
        _used = end;
        return _tensors.Count - 1;
    }

    public MemoryPlace PlaceOf(int tensor) => new(_memory!.Memory.Memory, _tensors[tensor].Offset);

    public ulong AddressOf(int tensor) => PlaceOf(tensor).Address();

    public void Upload() => _memory!.View(0, [(nint)_used], [1]).CopyFrom(new ReadOnlySpan<byte>(_host, (int)_used), stream);

    /// <summary>Brings everything back; outputs go where they came from, and nothing else may have changed.</summary>
    public void Download(string what, params ReadOnlySpan<(int Tensor, nint Destination)> outputs)
    {
        _memory!.View(0, [(nint)_used], [1]).CopyTo(new Span<byte>(_returned, (int)_used), stream);
        long at = 0;
        foreach ((string name, long offset, long bytes, bool isWritten) in _tensors)
        {
            if (!isWritten) continue;
            AssertUnchanged(at, offset, $"before {name}", what);
            at = offset + bytes;
        }

        AssertUnchanged(at, _used, "behind the last output", what);
        foreach ((int tensor, nint destination) in outputs)
            Buffer.MemoryCopy(_returned + _tensors[tensor].Offset, (void*)destination, _tensors[tensor].Bytes, _tensors[tensor].Bytes);
    }

    /// <summary>Brings everything back again; it must be what came before.</summary>
    public void AssertSame(string what)
    {
        byte[] again = ArrayPool<byte>.Shared.Rent((int)_used);
        _memory!.View(0, [(nint)_used], [1]).CopyTo(again.AsSpan(0, (int)_used), stream);
        int at = again.AsSpan(0, (int)_used).CommonPrefixLength(new ReadOnlySpan<byte>(_returned, (int)_used));
        ArrayPool<byte>.Shared.Return(again);
        if (at == _used) return;
        (string name, long offset, long bytes, _) = _tensors.FindLast(tensor => tensor.Offset <= at);
        Assert.Fail($"Byte {at - offset} of the {bytes} of {name} differs between two runs, {again[at]:x2} and {_returned[at]:x2}.\n{what}");
    }

    public void Dispose() => Free();

    private void AssertUnchanged(long from, long to, string where, string what)
    {
        var before = new ReadOnlySpan<byte>(_host + from, (int)(to - from));
        var after = new ReadOnlySpan<byte>(_returned + from, (int)(to - from));
        int at = before.CommonPrefixLength(after);
        if (at == before.Length) return;
        string tensors = string.Join(", ", _tensors.Select(static tensor => $"{tensor.Name} {tensor.Offset}..{tensor.Offset + tensor.Bytes}"));
        Assert.Fail($"A byte {where} was written: number {from + at} is {after[at]:x2} and was {before[at]:x2}, in memory with {tensors}.\n{what}");
    }

    private void Free()
    {
        _memory?.Dispose();
        NativeMemory.Free(_host);
        NativeMemory.Free(_returned);
        _memory = null;
        _host = _returned = null;
        _capacity = 0;
    }
}
