namespace FusedAttention.Cuda.Driver;

/// <content>Streams and events.</content>
internal sealed unsafe partial class CudaDriver
{
    /// <summary>CU_STREAM_NON_BLOCKING: no order with the legacy default stream.</summary>
    private const uint StreamNonBlocking = 1;

    /// <summary>CU_EVENT_DISABLE_TIMING: records and waits cost least.</summary>
    private const uint EventDisableTiming = 2;

    public nint StreamCreate()
    {
        nint stream;
        Check(_streamCreate(&stream, StreamNonBlocking), "cuStreamCreate");
        return stream;
    }

    /// <summary>Says nothing of failure.</summary>
    public void StreamDestroy(nint stream) => _ = _streamDestroy(stream);

    public void StreamWaitEvent(nint stream, nint awaited) => Check(_streamWaitEvent(stream, awaited, 0), "cuStreamWaitEvent");

    /// <summary>Also true for a capture that something has made invalid and nobody has ended yet.</summary>
    public bool StreamIsCapturing(nint stream)
    {
        int status;
        Check(_streamIsCapturing(stream, &status), "cuStreamIsCapturing");
        return status != CaptureStatusNone;
    }

    public nint EventCreate() => EventCreate(EventDisableTiming);

    /// <summary>An event that knows when it was reached.</summary>
    public nint TimedEventCreate() => EventCreate(flags: 0);

    public void EventRecord(nint recorded, nint stream) => Check(_eventRecord(recorded, stream), "cuEventRecord");

    /// <summary>Whether what the event was recorded behind has ended.</summary>
    /// <param name="asked">The event.</param>
    /// <param name="failure">Not <see cref="Success"/> if work in the context failed: then nothing in it runs any more.</param>
    public bool EventHasEnded(nint asked, out int failure)
    {
        int result = _eventQuery(asked);
        failure = result == NotReady ? Success : result;
        return result == Success;
    }

    /// <returns><see cref="Success"/>, or what went wrong.</returns>
    public int EventSynchronize(nint awaited) => _eventSynchronize(awaited);

    /// <summary>Milliseconds between two timed events that were reached.</summary>
    public float EventElapsedTime(nint start, nint end)
    {
        float milliseconds;
        Check(_eventElapsedTime(&milliseconds, start, end), "cuEventElapsedTime");
        return milliseconds;
    }

    /// <summary>Says nothing of failure.</summary>
    public void EventDestroy(nint destroyed) => _ = _eventDestroy(destroyed);

    private nint EventCreate(uint flags)
    {
        nint created;
        Check(_eventCreate(&created, flags), "cuEventCreate");
        return created;
    }
}
