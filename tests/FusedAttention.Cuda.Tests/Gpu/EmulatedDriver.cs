using FusedAttention.Cuda.Emulation.Runtime;
using FusedAttention.Cuda.Tests.Driver;

namespace FusedAttention.Cuda.Tests.Gpu;

/// <summary>Streams and graphs of a caller's, in the emulator.</summary>
internal sealed class EmulatedDriver(EmulatedRuntime runtime) : ICallersDriver
{
    private readonly List<IReadOnlyList<Action>> _graphs = [];
    private nint _last = 0x7000;

    public void Use(CudaDevice device, Action<nint> action) => action(1);

    public nint CreateStream() => ++_last;

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
