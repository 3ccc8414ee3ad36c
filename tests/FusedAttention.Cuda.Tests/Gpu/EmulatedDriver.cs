using FusedAttention.Cuda.Emulation.Runtime;
using FusedAttention.Cuda.Tests.Driver;

namespace FusedAttention.Cuda.Tests.Gpu;

/// <summary>Streams and graphs of a caller's, in the emulator.</summary>
internal sealed class EmulatedDriver(EmulatedRuntime runtime) : ICallersDriver
{
    /// <summary>Of the process: classes of tests that run side by side have one emulated device, and what one captures must be nobody else's stream.</summary>
    private static long _last = 0x7000;

    private readonly List<IReadOnlyList<Action>> _graphs = [];

    public void Use(CudaDevice device, Action<nint> action) => action(1);

    public nint CreateStream() => (nint)Interlocked.Increment(ref _last);

    public void DestroyStream(nint stream) => runtime.QueueOf(stream).RunWhile(static () => true);

    public void BeginCapture(nint stream) => runtime.QueueOf(stream).BeginCapture();

    public nint EndCapture(nint stream)
    {
        _graphs.Add(runtime.QueueOf(stream).EndCapture());
        return _graphs.Count;
    }

    public void LaunchGraph(nint graph, nint stream)
    {
        foreach (Action operation in _graphs[(int)graph - 1]) runtime.QueueOf(stream).Add(operation);
    }

    public void DestroyGraph(nint graph)
    {
    }

    public void Dispose()
    {
    }
}
