using FusedAttention.Cuda.Launching;
using FusedAttention.Devices;

namespace FusedAttention.Cuda.Driver;

/// <summary>A stream of the driver: one of this library's, or one of the caller's.</summary>
internal sealed unsafe class DriverStream : ICudaStream, ITimedStream
{
    private readonly CudaRuntime _runtime;
    private readonly SubmissionEvents _events;
    private readonly bool _isOwned;
    private int _isDisposed;

    public DriverStream(CudaRuntime runtime, nint handle, bool isOwned)
    {
        _runtime = runtime;
        _events = new(runtime.Driver);
        _isOwned = isOwned;
        Handle = handle;
    }

    public nint Handle { get; }

    public bool IsCapturing
    {
        get
        {
            using ContextScope scope = _runtime.Enter();
            return _runtime.Driver.StreamIsCapturing(Handle);
        }
    }

    /// <summary>Throws nothing: memory is given back by it, on the finaliser's thread too.</summary>
    public long Completed
    {
        get
        {
            if (_events.IsIdle(out long completed)) return completed;
            try
            {
                using RelaxedScope scope = _runtime.EnterRelaxed();
                return _events.Poll();
            }
            catch (CudaException failure)
            {
                _events.Fail(failure.Message);
                return _events.Poll();
            }
        }
    }

    public DeviceMemory Allocate(long bytes) => _runtime.Allocate(bytes);

    public void Launch(in KernelLaunch launch)
    {
        LoadedKernel kernel = _runtime.Kernels.Get(launch.Function);
        using ContextScope scope = _runtime.Enter();
        int result = _runtime.Driver.Launch(kernel.Function, launch.X, launch.Y, launch.Z, (uint)launch.Function.Threads, (uint)launch.Function.SharedBytes, Handle, launch.Parameters);
        if (result != CudaDriver.Success) ThrowRefused(launch, result);
    }

    public void CopyToDevice(MemoryPlace to, void* from, long bytes)
    {
        using ContextScope scope = _runtime.Enter();
        _runtime.Driver.CopyHostToDevice(to.Address(), from, bytes, Handle);
    }

    public void CopyToHost(void* to, MemoryPlace from, long bytes)
    {
        using ContextScope scope = _runtime.Enter();
        _runtime.Driver.CopyDeviceToHost(to, from.Address(), bytes, Handle);
    }

    public void Copy(MemoryPlace to, MemoryPlace from, long bytes)
    {
        using ContextScope scope = _runtime.Enter();
        _runtime.Driver.CopyDeviceToDevice(to.Address(), from.Address(), bytes, Handle);
    }

    public void Clear(MemoryPlace place, long bytes)
    {
        using ContextScope scope = _runtime.Enter();
        _runtime.Driver.Clear(place.Address(), bytes, Handle);
    }

    public long EndSubmission()
    {
        using RelaxedScope scope = _runtime.EnterRelaxed();
        return _runtime.Driver.StreamIsCapturing(Handle) ? 0 : _events.Record(Handle);
    }

    public void WaitFor(ICudaStream other, long submission)
    {
        using RelaxedScope scope = _runtime.EnterRelaxed();
        ((DriverStream)other)._events.Order(Handle, submission);
    }

    public void Wait(long submission)
    {
        using RelaxedScope scope = _runtime.EnterRelaxed();
        _events.Wait(submission);
    }

    public IStreamTimer CreateTimer() => new EventTimer(_runtime, Handle);

    public void Dispose()
    {
        if (Interlocked.Exchange(ref _isDisposed, 1) != 0 || !_runtime.TryEnter(out RelaxedScope scope)) return;
        using (scope)
        {
            _events.Dispose();
            if (_isOwned) _runtime.Driver.StreamDestroy(Handle);
        }
    }

    private void ThrowRefused(in KernelLaunch launch, int result) => throw new CudaException(
        $"Kernel {launch.Function.Label} cannot be launched ({launch.X} x {launch.Y} x {launch.Z} blocks of {launch.Function.Threads} threads, {launch.Function.SharedBytes} bytes of shared memory, " +
        $"{launch.Parameters.Length} bytes of parameters). {_runtime.Driver.Describe(result, "cuLaunchKernel")}");
}
