using System.Runtime.InteropServices;
using FusedAttention.Cuda.Launching;
using Xunit;

namespace FusedAttention.Cuda.Tests.Fakes;

/// <summary>
/// A device over the host's memory that writes down what it is asked: copies copy, launches compute nothing (unless <see cref="OnLaunch"/> does). What is queued is done at once, and its submission has
/// ended when it is waited for, or when the test says so (<see cref="RecordingStream.End"/>), or at once (<see cref="EndsAtOnce"/>).
/// </summary>
internal sealed unsafe class RecordingRuntime : ICudaRuntime
{
    private readonly Lock _gate = new();
    private readonly HashSet<Memory> _living = [];

    public CudaDeviceDescription Device { get; init; } =
        new(Ordinal: 0, "Recorder", Major: 9, Minor: 0, Multiprocessors: 132, MaxSharedMemory: 232448, MemoryBytes: 1 << 26, DriverVersion: 13000);

    /// <summary>Whether a submission has ended when <see cref="ICudaStream.EndSubmission"/> returns.</summary>
    public bool EndsAtOnce { get; set; }

    /// <summary>False for tests that count what calls allocate: nothing is written down, and bytes are not copied to be kept.</summary>
    public bool Records { get; init; } = true;

    /// <summary>What a launch does, when it is queued: its kernel, how many blocks it has along x, and its parameters.</summary>
    public Action<KernelFunction, uint, byte[]>? OnLaunch { get; set; }

    /// <summary>Thrown by everything that talks to the device from now on, as the driver does after an illegal access.</summary>
    public string? Broken { get; set; }

    /// <summary>Thrown by the next <see cref="Prepare"/>.</summary>
    public Exception? PrepareFailure { get; set; }

    /// <summary>Bytes that may be allocated at one time; more is refused.</summary>
    public long Capacity { get; set; } = long.MaxValue;

    public List<KernelFunction> Prepared { get; } = [];

    public List<RecordingStream> Streams { get; } = [];

    /// <summary>Allocations that were not given back, pinned ones included.</summary>
    public int Living
    {
        get { lock (_gate) return _living.Count; }
    }

    public long LivingBytes
    {
        get { lock (_gate) return _living.Sum(static memory => memory.Bytes); }
    }

    /// <summary>All that were ever made.</summary>
    public int Allocations { get; private set; }

    public int Synchronizations { get; private set; }

    public bool IsDisposed { get; private set; }

    /// <summary>Where the host sees memory of this device: the addresses are the host's own.</summary>
    public static byte* At(ulong address) => (byte*)address;

    public CudaMemory Allocate(long bytes) => Add(bytes, isPinned: false);

    public CudaMemory AllocatePinned(long bytes) => Add(bytes, isPinned: true);

    public ICudaStream CreateStream() => Add(new RecordingStream(this, 0x1000 + Streams.Count, isOwned: true));

    public ICudaStream WrapStream(nint handle) => Add(new RecordingStream(this, handle, isOwned: false));

    public void Prepare(KernelFunction function)
    {
        if (PrepareFailure is { } failure)
        {
            PrepareFailure = null;
            throw failure;
        }

        lock (_gate)
        {
            if (Records) Prepared.Add(function);
        }
    }

    /// <summary>How many tensor maps were encoded.</summary>
    public int TensorMaps { get; private set; }

    /// <summary>The map holds the shape itself: <see cref="TensorMapOf"/> reads it.</summary>
    public void EncodeTensorMap(in TensorMapShape shape, Span<byte> map)
    {
        TensorMaps++;
        map[..TensorMapShape.MapBytes].Clear();
        MemoryMarshal.Write(map, shape);
    }

    /// <summary>What was encoded.</summary>
    public static TensorMapShape TensorMapOf(ReadOnlySpan<byte> map) => MemoryMarshal.Read<TensorMapShape>(map);

    public void Synchronize()
    {
        ThrowIfBroken();
        Synchronizations++;
        foreach (RecordingStream stream in Streams) stream.End(stream.Submitted);
    }

    public void Dispose() => IsDisposed = true;

    public void ThrowIfBroken()
    {
        if (Broken is not null) throw new CudaException(Broken);
    }

    private RecordingStream Add(RecordingStream stream)
    {
        Streams.Add(stream);
        return stream;
    }

    private Memory Add(long bytes, bool isPinned)
    {
        Assert.True(bytes > 0, "The driver gives nothing for 0 bytes.");
        ThrowIfBroken();
        if (bytes > Capacity - LivingBytes) throw new CudaException($"The device gives no memory of {bytes} bytes.");
        var memory = new Memory(this, NativeMemory.AlignedAlloc((nuint)bytes, 256), bytes, isPinned);
        lock (_gate)
        {
            _living.Add(memory);
            Allocations++;
        }

        return memory;
    }

    private sealed class Memory(RecordingRuntime owner, void* pointer, long bytes, bool isPinned) : CudaMemory((ulong)pointer, isPinned ? pointer : null, bytes)
    {
        protected override void Dispose(bool disposing)
        {
            lock (owner._gate) Assert.True(owner._living.Remove(this), "Memory was given back twice.");
            foreach (RecordingStream stream in owner.Streams) stream.AssertDoesNotUse(this);
            NativeMemory.AlignedFree((void*)Address);
        }
    }
}
