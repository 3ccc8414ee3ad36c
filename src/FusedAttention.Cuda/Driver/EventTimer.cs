using FusedAttention.Cuda.Launching;

namespace FusedAttention.Cuda.Driver;

/// <summary>A pair of events.</summary>
internal sealed class EventTimer : IStreamTimer
{
    private readonly CudaRuntime _runtime;
    private readonly nint _stream;
    private nint _start;
    private nint _end;

    public EventTimer(CudaRuntime runtime, nint stream)
    {
        _runtime = runtime;
        _stream = stream;
        using RelaxedScope scope = runtime.EnterRelaxed();
        _start = runtime.Driver.TimedEventCreate();
        try
        {
            _end = runtime.Driver.TimedEventCreate();
        }
        catch
        {
            runtime.Driver.EventDestroy(_start);
            throw;
        }
    }

    public void Start() => Record(_start);

    public void Stop() => Record(_end);

    public double Milliseconds()
    {
        using RelaxedScope scope = _runtime.EnterRelaxed();
        int result = _runtime.Driver.EventSynchronize(_end);
        if (result != CudaDriver.Success) throw new CudaException($"Work on the GPU failed. {_runtime.Driver.Describe(result, "cuEventSynchronize")}");
        return _runtime.Driver.EventElapsedTime(_start, _end);
    }

    public void Dispose()
    {
        if (_start == 0 || !_runtime.TryEnter(out RelaxedScope scope)) return;
        using (scope)
        {
            _runtime.Driver.EventDestroy(_start);
            _runtime.Driver.EventDestroy(_end);
            (_start, _end) = (0, 0);
        }
    }

    private void Record(nint point)
    {
        using ContextScope scope = _runtime.Enter();
        _runtime.Driver.EventRecord(point, _stream);
    }
}
