using System.Runtime.InteropServices;
using FusedAttention.Cuda.Emulation.Memory;
using FusedAttention.Cuda.Launching;
using FusedAttention.Devices;

namespace FusedAttention.Cuda.Emulation.Runtime;

/// <summary>A stream of an <see cref="EmulatedRuntime"/>. Operations run in order, when their submission is waited for.</summary>
internal sealed unsafe class EmulatedStream(EmulatedRuntime runtime, StreamQueue queue, nint handle) : ICudaStream, ITimedStream
{
    private long _submitted;
    private long _completed;
    private int _isDisposed;

    public nint Handle { get; } = handle;

    public bool IsCapturing => queue.IsCapturing;

    public long Completed => Interlocked.Read(ref _completed);

    public DeviceMemory Allocate(long bytes) => runtime.Allocate(bytes);

    public void Launch(in KernelLaunch launch)
    {
        KernelFunction function = launch.Function;
        byte[] parameters = launch.Parameters.ToArray();
        (int, int, int) grid = ((int)launch.X, (int)launch.Y, (int)launch.Z);
        LaunchChecks.Check(EmulatedRuntime.Program(function), function, grid, parameters.Length, runtime.Device);
        Add(() =>
        {
            fixed (byte* bytes = parameters) runtime.Run(function, grid, bytes, parameters.Length);
        });
    }

    public void CopyToDevice(MemoryPlace to, void* from, long bytes)
    {
        ulong address = to.Address();
        if (runtime.IsPinned(from))
        {
            Add(() => Write(address, bytes, (byte*)from));
            return;
        }

        byte[] kept = new ReadOnlySpan<byte>(from, checked((int)bytes)).ToArray();
        Add(() =>
        {
            fixed (byte* first = kept) Write(address, bytes, first);
        });
    }

    public void CopyToHost(void* to, MemoryPlace from, long bytes)
    {
        ulong address = from.Address();
        Add(() =>
        {
            Allocation allocation = runtime.Space.Require(address, bytes, "a copy to the host");
            Buffer.MemoryCopy(allocation.Pointer + (address - allocation.Start), to, bytes, bytes);
        });
    }

    public void Copy(MemoryPlace to, MemoryPlace from, long bytes)
    {
        (ulong target, ulong source) = (to.Address(), from.Address());
        Add(() =>
        {
            Allocation of = runtime.Space.Require(source, bytes, "a copy"), into = runtime.Space.Require(target, bytes, "a copy");
            Buffer.MemoryCopy(of.Pointer + (source - of.Start), into.Pointer + (target - into.Start), bytes, bytes);

            // What was never written is as unknown where it was copied to.
            Buffer.MemoryCopy(of.Written + (source - of.Start), into.Written + (target - into.Start), bytes, bytes);
        });
    }

    public void Clear(MemoryPlace place, long bytes)
    {
        ulong address = place.Address();
        Add(() =>
        {
            Allocation allocation = runtime.Space.Require(address, bytes, "clearing");
            NativeMemory.Clear(allocation.Pointer + (address - allocation.Start), (nuint)bytes);
            allocation.MarkWritten(address, bytes);
        });
    }

    public long EndSubmission()
    {
        if (IsCapturing) return 0;
        long number = Interlocked.Increment(ref _submitted);
        Add(() => Interlocked.Exchange(ref _completed, number));
        return number;
    }

    public void WaitFor(ICudaStream other, long submission)
    {
        var awaited = (EmulatedStream)other;
        Add(() => awaited.RunUntil(submission));
    }

    public void Wait(long submission)
    {
        ArgumentOutOfRangeException.ThrowIfGreaterThan(submission, Interlocked.Read(ref _submitted));
        RunUntil(submission);
    }

    /// <summary>Runs all that is queued.</summary>
    public void Finish()
    {
        queue.RunWhile(static () => true);
        Interlocked.Exchange(ref _completed, Interlocked.Read(ref _submitted));
    }

    public IStreamTimer CreateTimer() => new EmulatedTimer(this);

    /// <summary>What is queued still runs.</summary>
    public void Dispose()
    {
        if (Interlocked.Exchange(ref _isDisposed, 1) != 0) return;
        Finish();
        runtime.Remove(this);
    }

    /// <summary>Queues something that runs in the stream's order.</summary>
    public void Add(Action operation)
    {
        ObjectDisposedException.ThrowIf(_isDisposed != 0, this);
        queue.Add(operation);
    }

    private void Write(ulong address, long bytes, byte* from)
    {
        Allocation allocation = runtime.Space.Require(address, bytes, "a copy to the device");
        Buffer.MemoryCopy(from, allocation.Pointer + (address - allocation.Start), bytes, bytes);
        allocation.MarkWritten(address, bytes);
    }

    private void RunUntil(long submission)
    {
        // Without the queue's lock: who waits for what has ended need not wait for the one who is at something later.
        if (Completed >= submission) return;
        try
        {
            queue.RunWhile(() => Completed < submission);
        }
        finally
        {
            // What a failure has taken from the queue never runs.
            if (Completed < submission) Interlocked.Exchange(ref _completed, submission);
        }
    }

    /// <summary>Measures instructions' time on this machine, which says nothing about a GPU's.</summary>
    private sealed class EmulatedTimer(EmulatedStream stream) : IStreamTimer
    {
        private long _start;
        private long _end;

        public void Start() => stream.Add(() => _start = System.Diagnostics.Stopwatch.GetTimestamp());

        public void Stop() => stream.Add(() => _end = System.Diagnostics.Stopwatch.GetTimestamp());

        public double Milliseconds()
        {
            stream.Finish();
            return System.Diagnostics.Stopwatch.GetElapsedTime(_start, _end).TotalMilliseconds;
        }

        public void Dispose()
        {
        }
    }
}
