namespace FusedAttention.Cuda.Launching;

/// <summary>A stream that can say how long its device works.</summary>
internal interface ITimedStream
{
    /// <summary>A timer of its own, to be used many times.</summary>
    IStreamTimer CreateTimer();
}

/// <summary>Two points of a stream, and the time between them by the device's own clock. Used by one thread at a time; measuring allocates nothing.</summary>
internal interface IStreamTimer : IDisposable
{
    /// <summary>The time begins when the device is done with what was queued before.</summary>
    void Start();

    /// <summary>It ends when the device is done with what was queued up to now.</summary>
    void Stop();

    /// <summary>Waits for the second point.</summary>
    /// <exception cref="CudaException">Work on the device failed.</exception>
    double Milliseconds();
}
