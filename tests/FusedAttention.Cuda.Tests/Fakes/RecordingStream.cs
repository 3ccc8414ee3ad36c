using FusedAttention.Cuda.Launching;
using FusedAttention.Devices;
using Xunit;

namespace FusedAttention.Cuda.Tests.Fakes;

/// <summary>What a stream was asked to do.</summary>
internal enum StreamAction
{
    Launch,
    CopyToDevice,
    CopyToHost,
    Copy,
    Clear,
    WaitFor,
}

/// <summary>One thing that was queued.</summary>
/// <param name="Action">What.</param>
/// <param name="Submission">The number that the submission gets when it ends; 0 while capturing.</param>
internal sealed record StreamOperation(StreamAction Action, long Submission)
{
    public KernelFunction? Function { get; init; }

    public (uint X, uint Y, uint Z) Grid { get; init; }

    /// <summary>Of a launch.</summary>
    public byte[] Parameters { get; init; } = [];

    public MemoryPlace? To { get; init; }

    public MemoryPlace? From { get; init; }

    public long Bytes { get; init; }

    /// <summary>Whose submission is waited for, and which.</summary>
    public (RecordingStream Stream, long Submission)? Awaited { get; init; }
}

/// <summary>A stream of a <see cref="RecordingRuntime"/>.</summary>
internal sealed unsafe class RecordingStream(RecordingRuntime runtime, nint handle, bool isOwned) : ICudaStream
{
    private readonly Lock _gate = new();
    private long _completed;

    public nint Handle { get; } = handle;

    public bool IsOwned { get; } = isOwned;

    /// <summary>Set by tests.</summary>
    public bool IsCapturing { get; set; }

    /// <summary>Thrown by the next <see cref="EndSubmission"/>.</summary>
    public Exception? EndFailure { get; set; }

    public List<StreamOperation> Operations { get; } = [];

    /// <summary>The numbers that somebody waited for on the host.</summary>
    public List<long> Waits { get; } = [];

    public long Submitted { get; private set; }

    public bool IsDisposed { get; private set; }

    public long Completed
    {
        get { lock (_gate) return _completed; }
    }

    public DeviceMemory Allocate(long bytes) => runtime.Allocate(bytes);

    /// <summary>Says that a submission, and those before it, have ended.</summary>
    public void End(long submission)
    {
        lock (_gate) _completed = Math.Max(_completed, submission);
    }

    public void Launch(in KernelLaunch launch)
    {
        Check();
        byte[] parameters = runtime.Records || runtime.OnLaunch is not null ? launch.Parameters.ToArray() : [];
        if (runtime.Records) Record(new(StreamAction.Launch, Next) { Function = launch.Function, Grid = (launch.X, launch.Y, launch.Z), Parameters = parameters });
        runtime.OnLaunch?.Invoke(launch.Function, launch.X, parameters);
    }

    public void CopyToDevice(MemoryPlace to, void* from, long bytes)
    {
        Check(to, bytes);
        if (runtime.Records) Record(new(StreamAction.CopyToDevice, Next) { To = to, Bytes = bytes });
        Buffer.MemoryCopy(from, RecordingRuntime.At(to.Address()), bytes, bytes);
    }

    public void CopyToHost(void* to, MemoryPlace from, long bytes)
    {
        Check(from, bytes);
        if (runtime.Records) Record(new(StreamAction.CopyToHost, Next) { From = from, Bytes = bytes });
        Buffer.MemoryCopy(RecordingRuntime.At(from.Address()), to, bytes, bytes);
    }

    public void Copy(MemoryPlace to, MemoryPlace from, long bytes)
    {
        Check(to, bytes);
        Check(from, bytes);
        if (runtime.Records) Record(new(StreamAction.Copy, Next) { To = to, From = from, Bytes = bytes });
        Buffer.MemoryCopy(RecordingRuntime.At(from.Address()), RecordingRuntime.At(to.Address()), bytes, bytes);
    }

    public void Clear(MemoryPlace place, long bytes)
    {
        Check(place, bytes);
        if (runtime.Records) Record(new(StreamAction.Clear, Next) { To = place, Bytes = bytes });
        new Span<byte>(RecordingRuntime.At(place.Address()), (int)bytes).Clear();
    }

    public long EndSubmission()
    {
        Check();
        if (EndFailure is { } failure)
        {
            EndFailure = null;
            throw failure;
        }

        if (IsCapturing) return 0;
        lock (_gate)
        {
            Submitted++;
            if (runtime.EndsAtOnce) _completed = Submitted;
            return Submitted;
        }
    }

    public void WaitFor(ICudaStream other, long submission)
    {
        Check();
        var awaited = (RecordingStream)other;
        if (submission < 1 || submission > awaited.Submitted) Assert.Fail($"Submission {submission} of {awaited.Submitted} is waited for.");
        if (runtime.Records) Record(new(StreamAction.WaitFor, Next) { Awaited = (awaited, submission) });
    }

    public void Wait(long submission)
    {
        runtime.ThrowIfBroken();
        lock (_gate)
        {
            if (submission < 0 || submission > Submitted) Assert.Fail($"Submission {submission} of {Submitted} is waited for.");
            if (runtime.Records) Waits.Add(submission);
            _completed = Math.Max(_completed, submission);
        }
    }

    public void Dispose()
    {
        Assert.False(IsDisposed, "A stream was disposed twice.");
        IsDisposed = true;
        End(Submitted);
    }

    /// <summary>Fails if a copy under way has to do with some memory; of launches only bytes are known.</summary>
    public void AssertDoesNotUse(DeviceMemory memory)
    {
        if (IsDisposed) return;
        StreamOperation[] operations;
        lock (_gate) operations = [.. Operations];
        foreach (StreamOperation operation in operations)
            Assert.False(operation.Submission > Completed && (operation.To?.Memory == memory || operation.From?.Memory == memory), $"Memory is given back while {operation.Action} uses it.");
    }

    private long Next => IsCapturing ? 0 : Submitted + 1;

    private void Record(StreamOperation operation)
    {
        lock (_gate) Operations.Add(operation);
    }

    private void Check()
    {
        Assert.False(IsDisposed, "A stream that is disposed was asked.");
        runtime.ThrowIfBroken();
    }

    private void Check(MemoryPlace place, long bytes)
    {
        Check();
        if (bytes <= 0 || place.Offset < 0 || place.Offset + bytes > place.Memory.Bytes) Assert.Fail($"{bytes} bytes at {place.Offset} of {place.Memory.Bytes}.");
    }
}
