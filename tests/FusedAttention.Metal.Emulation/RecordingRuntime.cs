using System.Runtime.InteropServices;
using FusedAttention.Devices;
using FusedAttention.Metal.Launching;
using Xunit;

namespace FusedAttention.Metal.Emulation;

/// <summary>
/// A device that writes down what it is asked and computes nothing: for what lies above the runtime. Submissions end when they are waited for, or when <see cref="End"/> says so.
/// </summary>
internal sealed unsafe class RecordingRuntime : IMetalRuntime
{
    private readonly Lock _lock = new();
    private readonly HashSet<Memory> _living = [];
    private readonly List<KernelLaunch> _open = [];
    private bool _isOpen;
    private long _completed;

    public MetalDeviceDescription Device { get; init; } = new("Recorder", AppleFamily: 9, MaxThreadgroupMemory: 32768, MaxBufferLength: 1 << 26, HasKnownLaneMap: true);

    public List<KernelLaunch[]> Submissions { get; } = [];

    /// <summary>The numbers that somebody waited for.</summary>
    public List<long> Waits { get; } = [];

    /// <summary>Submissions that fail when they end.</summary>
    public HashSet<long> Failing { get; } = [];

    public List<KernelFunction> Prepared { get; } = [];

    /// <summary>What a launch does, when it is submitted.</summary>
    public Action<KernelLaunch>? OnLaunch { get; init; }

    /// <summary>Thrown by the next <see cref="Prepare"/>.</summary>
    public Exception? PrepareFailure { get; set; }

    public long Completed
    {
        get { lock (_lock) return _completed; }
    }

    /// <summary>Allocations that were not given back.</summary>
    public int Living
    {
        get { lock (_lock) return _living.Count; }
    }

    /// <summary>Whether an allocation was not given back.</summary>
    public bool IsLiving(DeviceMemory memory)
    {
        lock (_lock) return _living.Contains((Memory)memory);
    }

    public int Allocations { get; private set; }

    public bool IsDisposed { get; private set; }

    /// <summary>Where what a launch has in a slot begins.</summary>
    public static byte* At(KernelLaunch launch, int slot)
    {
        BufferBinding binding = launch.Buffers.Single(buffer => buffer.Index == slot);
        return binding.Memory.Pointer + binding.Offset;
    }

    public void End(long submission)
    {
        lock (_lock) _completed = Math.Max(_completed, submission);
    }

    public DeviceMemory Allocate(long bytes) => Add(new Memory(this, NativeMemory.AlignedAlloc((nuint)Math.Max(16, bytes), 16384), Math.Max(16, bytes), owned: true));

    public DeviceMemory Wrap(nint pointer, long bytes) => Add(new Memory(this, (void*)pointer, bytes, owned: false));

    /// <summary>How long the memory is that is to be kept where a GPU reaches it.</summary>
    public List<long> Resident { get; } = [];

    public void KeepResident(DeviceMemory memory) => Resident.Add(memory.Bytes);

    public KernelResources Prepare(KernelFunction function)
    {
        if (PrepareFailure is { } failure)
        {
            PrepareFailure = null;
            throw failure;
        }

        lock (_lock) Prepared.Add(function);
        return new(MaxThreads: 1024, ThreadgroupBytes: 0);
    }

    public double SubmissionBudget { get; init; } = CommandBufferBudget.First;

    public long Submit(ReadOnlySpan<KernelLaunch> launches, bool staysOpen = false)
    {
        lock (_lock)
        {
            foreach (KernelLaunch launch in launches)
            {
                foreach (BufferBinding binding in launch.Buffers) Assert.Contains((Memory)binding.Memory, _living);
                OnLaunch?.Invoke(launch);

                // Launches are the caller's again afterwards, and are used again.
                _open.Add(launch with { Buffers = [.. launch.Buffers], Parameters = [.. launch.Parameters] });
            }

            _isOpen = true;
            if (staysOpen) return Submissions.Count + 1;
            Commit();
            return Submissions.Count;
        }
    }

    public void Commit()
    {
        lock (_lock)
        {
            if (!_isOpen) return;
            Submissions.Add([.. _open]);
            _open.Clear();
            _isOpen = false;
        }
    }

    public void Wait(long submission)
    {
        lock (_lock)
        {
            Assert.InRange(submission, 0, Submissions.Count);
            Waits.Add(submission);
            _completed = Math.Max(_completed, submission);
            if (Failing.Contains(submission)) throw new MetalException($"submission {submission} failed");
        }
    }

    public void Dispose() => IsDisposed = true;

    private Memory Add(Memory memory)
    {
        lock (_lock)
        {
            _living.Add(memory);
            Allocations++;
        }

        return memory;
    }

    private sealed class Memory(RecordingRuntime owner, void* pointer, long bytes, bool owned) : DeviceMemory(pointer, bytes)
    {
        protected override void Dispose(bool disposing)
        {
            lock (owner._lock)
            {
                Assert.True(owner._living.Remove(this), "Memory was given back twice.");
                foreach (IEnumerable<KernelLaunch> launches in owner.Submissions.Skip((int)owner._completed).Append<IEnumerable<KernelLaunch>>(owner._open))
                    Assert.DoesNotContain(launches.SelectMany(static launch => launch.Buffers), binding => binding.Memory == this);
            }

            if (owned) NativeMemory.AlignedFree(Pointer);
        }
    }
}
