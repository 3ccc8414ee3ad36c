namespace FusedAttention.Cuda.Tests.Driver;

/// <summary>What a caller does with the driver beside this library: streams and graphs of its own.</summary>
internal interface ICallersDriver : IDisposable
{
    /// <summary>Does something in the device's primary context.</summary>
    void Use(CudaDevice device, Action<nint> action);

    nint CreateStream();

    void DestroyStream(nint stream);

    /// <summary>In the global mode, the strictest.</summary>
    void BeginCapture(nint stream);

    /// <returns>The graph, ready to be launched.</returns>
    nint EndCapture(nint stream);

    void LaunchGraph(nint graph, nint stream);

    void DestroyGraph(nint graph);
}
