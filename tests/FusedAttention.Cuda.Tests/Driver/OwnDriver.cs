using System.Runtime.InteropServices;
using Xunit;

namespace FusedAttention.Cuda.Tests.Driver;

/// <summary>What a caller does with the driver beside this library: contexts, streams and graphs of its own.</summary>
internal sealed unsafe class OwnDriver : ICallersDriver
{
    private readonly nint _library = NativeLibrary.Load(OperatingSystem.IsWindows() ? "nvcuda.dll" : "libcuda.so.1");

    /// <summary>Of this thread.</summary>
    public nint Current
    {
        get
        {
            nint context;
            Check(((delegate* unmanaged<nint*, int>)Function("cuCtxGetCurrent"))(&context));
            return context;
        }
    }

    /// <summary>A context, current on this thread.</summary>
    public nint CreateContext()
    {
        nint context;
        Check(((delegate* unmanaged<nint*, uint, int, int>)Function("cuCtxCreate_v2"))(&context, 0, 0));
        return context;
    }

    public void DestroyContext(nint context) => Check(((delegate* unmanaged<nint, int>)Function("cuCtxDestroy_v2"))(context));

    /// <summary>Does something in the device's primary context.</summary>
    public void Use(CudaDevice device, Action<nint> action)
    {
        nint context;
        Check(((delegate* unmanaged<nint*, int, int>)Function("cuDevicePrimaryCtxRetain"))(&context, device.Ordinal));
        Check(((delegate* unmanaged<nint, int>)Function("cuCtxPushCurrent_v2"))(context));
        try
        {
            action(context);
        }
        finally
        {
            Check(((delegate* unmanaged<nint*, int>)Function("cuCtxPopCurrent_v2"))(&context));
            Check(((delegate* unmanaged<int, int>)Function("cuDevicePrimaryCtxRelease_v2"))(device.Ordinal));
        }
    }

    public nint CreateStream()
    {
        nint stream;
        Check(((delegate* unmanaged<nint*, uint, int>)Function("cuStreamCreate"))(&stream, 1));
        return stream;
    }

    public void DestroyStream(nint stream) => Check(((delegate* unmanaged<nint, int>)Function("cuStreamDestroy_v2"))(stream));

    /// <summary>In the global mode, the strictest.</summary>
    public void BeginCapture(nint stream) => Check(((delegate* unmanaged<nint, int, int>)Function("cuStreamBeginCapture_v2"))(stream, 0));

    /// <returns>The graph, ready to be launched.</returns>
    public nint EndCapture(nint stream)
    {
        nint graph, ready;
        Check(((delegate* unmanaged<nint, nint*, int>)Function("cuStreamEndCapture"))(stream, &graph));
        Check(((delegate* unmanaged<nint*, nint, ulong, int>)Function("cuGraphInstantiateWithFlags"))(&ready, graph, 0));
        Check(((delegate* unmanaged<nint, int>)Function("cuGraphDestroy"))(graph));
        return ready;
    }

    public void LaunchGraph(nint graph, nint stream) => Check(((delegate* unmanaged<nint, nint, int>)Function("cuGraphLaunch"))(graph, stream));

    public void DestroyGraph(nint graph) => Check(((delegate* unmanaged<nint, int>)Function("cuGraphExecDestroy"))(graph));

    public void Dispose() => NativeLibrary.Free(_library);

    private static void Check(int result) => Assert.Equal(0, result);

    private nint Function(string name) => NativeLibrary.GetExport(_library, name);
}
