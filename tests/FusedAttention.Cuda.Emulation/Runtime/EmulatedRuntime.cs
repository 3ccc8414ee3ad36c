using System.Collections.Concurrent;
using System.Collections.Immutable;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using FusedAttention.Cuda.Emulation.Machine;
using FusedAttention.Cuda.Emulation.Memory;
using FusedAttention.Cuda.Emulation.Programs;
using FusedAttention.Cuda.Launching;

namespace FusedAttention.Cuda.Emulation.Runtime;

/// <summary>
/// A device that is this process: runs what the driver would be given. What is queued on a stream runs when somebody waits for it, on the thread that waits, which is as late as a device may be; so memory that
/// is given back or written too early shows.
/// </summary>
internal sealed unsafe class EmulatedRuntime : ICudaRuntime
{
    /// <summary>Decoded once a process: functions are one object a specialisation.</summary>
    private static readonly ConditionalWeakTable<KernelFunction, KernelProgram> Programs = [];

    private readonly ConcurrentDictionary<EmulatedStream, bool> _streams = [];
    private readonly ConcurrentDictionary<nint, StreamQueue> _queues = [];
    private readonly ConcurrentDictionary<EmulatedMemory, bool> _pinned = [];
    private long _executed;
    private long _launches;
    private long _handles = 0x1000;

    public CudaDeviceDescription Device { get; init; } =
        new(Ordinal: 0, "Emulated GPU", Major: 8, Minor: 0, Multiprocessors: 108, MaxSharedMemory: 166912, MemoryBytes: 8L << 30, DriverVersion: 13000) { L2Bytes = 40 << 20 };

    /// <summary>In which blocks run, and warps between barriers: one launch after the other takes the next. Shuffled ones are shuffled anew for each.</summary>
    public ImmutableArray<LaunchOrder> Orders { get; init; } = [LaunchOrder.Forward, LaunchOrder.Reverse, new(OrderKind.Shuffled)];

    /// <summary>Instructions of a launch after which it counts as one that never ends.</summary>
    public long MostInstructions { get; init; } = 20_000_000_000;

    public DeviceSpace Space { get; } = new();

    /// <summary>Instructions of all warps of all launches.</summary>
    public long Executed => Interlocked.Read(ref _executed);

    public long Launches => Interlocked.Read(ref _launches);

    /// <summary>A kernel as the machine runs it.</summary>
    public static KernelProgram Program(KernelFunction function)
    {
        lock (function) return Programs.GetValue(function, static function => KernelProgram.Load(function.Text, function.EntryPoint, function.Label));
    }

    public void EncodeTensorMap(in TensorMapShape shape, Span<byte> map)
    {
        TensorMapImage.Five lengths = default, strides = default;
        TensorMapImage.FiveSmall box = default;
        (lengths[0], lengths[1], lengths[2], lengths[3]) = (shape.Length0, shape.Length1, shape.Length2, shape.Length3);
        (strides[0], strides[1], strides[2], strides[3]) = (sizeof(ushort), shape.Stride1, shape.Stride2, shape.Stride3);
        (box[0], box[1], box[2], box[3]) = (checked((short)shape.Box0), checked((short)shape.Box1), checked((short)shape.Box2), 1);
        var image = new TensorMapImage { Rank = 4, ElementBytes = sizeof(ushort), Swizzle = Swizzle.Bytes128, Address = shape.Address, Lengths = lengths, Strides = strides, Box = box };
        if (image.Refusal() is { } refusal) throw new CudaException($"The driver would refuse the tensor {shape}: {refusal}.");
        MemoryMarshal.Write(map, image);
    }

    public CudaMemory Allocate(long bytes)
    {
        if (bytes > Device.MemoryBytes - Space.LivingBytes) throw new CudaException($"The device gives no memory of {bytes} bytes.");
        return new EmulatedMemory(this, Space.Allocate(bytes), isPinned: false);
    }

    public CudaMemory AllocatePinned(long bytes)
    {
        var memory = new EmulatedMemory(this, Space.Allocate(bytes), isPinned: true);
        memory.Allocation.MarkWritten(memory.Address, bytes);
        _pinned.TryAdd(memory, true);
        return memory;
    }

    public ICudaStream CreateStream() => Add(new(this, new(), (nint)Interlocked.Increment(ref _handles)));

    public ICudaStream WrapStream(nint handle) => Add(new(this, QueueOf(handle), handle));

    /// <summary>The queue of a caller's stream.</summary>
    public StreamQueue QueueOf(nint handle) => _queues.GetOrAdd(handle, static _ => new());

    public void Prepare(KernelFunction function) => Program(function);

    public void Synchronize()
    {
        foreach (EmulatedStream stream in _streams.Keys) stream.Finish();
        foreach (StreamQueue queue in _queues.Values) queue.RunWhile(static () => true);
    }

    public void Dispose()
    {
        Synchronize();
        Space.Dispose();
    }

    public void Free(EmulatedMemory memory)
    {
        _pinned.TryRemove(memory, out _);
        Space.Free(memory.Allocation);
    }

    /// <summary>The first byte of memory that neither a kernel nor a copy has written; -1 where there is none.</summary>
    public long FirstUnwritten(CudaMemory memory) => Space.Require(memory.Address, memory.Bytes, "looking").FirstUnwritten(0, memory.Bytes);

    public void Remove(EmulatedStream stream) => _streams.TryRemove(stream, out _);

    /// <summary>Whether bytes of the host are in pinned memory, so that a copy reads them when it runs.</summary>
    public bool IsPinned(void* host) => _pinned.Keys.Any(memory => host >= memory.Pointer && host < memory.Pointer + memory.Bytes);

    /// <summary>Runs a launch now.</summary>
    public void Run(KernelFunction function, (int X, int Y, int Z) grid, byte* parameters, int parameterBytes)
    {
        KernelProgram program = Program(function);
        LaunchChecks.Check(program, function, grid, parameterBytes, Device);
        long number = Interlocked.Increment(ref _launches) - 1;
        LaunchOrder order = Orders[(int)(number % Orders.Length)];
        var launch = new LaunchState
        {
            Program = program,
            Space = Space,
            Parameters = parameters,
            ParameterBytes = parameterBytes,
            Grid = grid,
            Threads = function.Threads,
            SharedBytes = program.SharedBytes + function.SharedBytes,
            Order = order with { Seed = unchecked(order.Seed + (int)number) },
        };
        Interlocked.Add(ref _executed, GridRunner.Run(launch, MostInstructions));
    }

    private EmulatedStream Add(EmulatedStream stream)
    {
        _streams.TryAdd(stream, true);
        return stream;
    }
}
