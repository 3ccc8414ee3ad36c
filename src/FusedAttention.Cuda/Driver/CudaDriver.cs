using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

// All arguments are numbers, pointers and plain structures: nothing is marshalled, so what a declaration says is what the callee gets.
[assembly: DisableRuntimeMarshalling]

namespace FusedAttention.Cuda.Driver;

/// <summary>
/// The functions of the CUDA driver that this library calls, and nothing else of CUDA: addresses found by name, once. A call that fails throws, with what the driver says:
/// <c>cuMemAlloc: CUDA_ERROR_OUT_OF_MEMORY (2): out of memory</c>.
/// </summary>
/// <remarks>Functions with a suffix (<c>_v2</c>) are the ones that a C program of today gets under the plain name.</remarks>
internal sealed unsafe partial class CudaDriver
{
    public const int Success = 0;
    private const int NotReady = 600;

    /// <summary>No graph is being captured.</summary>
    private const int CaptureStatusNone = 0;

    private readonly delegate* unmanaged<int, byte**, int> _getErrorName;
    private readonly delegate* unmanaged<int, byte**, int> _getErrorString;
    private readonly delegate* unmanaged<uint, int> _init;
    private readonly delegate* unmanaged<int*, int> _driverGetVersion;
    private readonly delegate* unmanaged<int*, int> _deviceGetCount;
    private readonly delegate* unmanaged<int*, int, int> _deviceGet;
    private readonly delegate* unmanaged<byte*, int, int, int> _deviceGetName;
    private readonly delegate* unmanaged<int*, int, int, int> _deviceGetAttribute;
    private readonly delegate* unmanaged<nuint*, int, int> _deviceTotalMem;
    private readonly delegate* unmanaged<nint*, int, int> _devicePrimaryCtxRetain;
    private readonly delegate* unmanaged<int, int> _devicePrimaryCtxRelease;
    private readonly delegate* unmanaged<nint*, int> _ctxGetCurrent;
    private readonly delegate* unmanaged<nint, int> _ctxPushCurrent;
    private readonly delegate* unmanaged<nint*, int> _ctxPopCurrent;
    private readonly delegate* unmanaged<int> _ctxSynchronize;
    private readonly delegate* unmanaged<int*, int> _threadExchangeStreamCaptureMode;
    private readonly delegate* unmanaged<ulong*, nuint, int> _memAlloc;
    private readonly delegate* unmanaged<ulong*, nuint, nint, int> _memAllocAsync;
    private readonly delegate* unmanaged<ulong, int> _memFree;
    private readonly delegate* unmanaged<void**, nuint, uint, int> _memHostAlloc;
    private readonly delegate* unmanaged<void*, int> _memFreeHost;
    private readonly delegate* unmanaged<ulong*, void*, uint, int> _memHostGetDevicePointer;
    private readonly delegate* unmanaged<ulong, void*, nuint, nint, int> _memcpyHtoDAsync;
    private readonly delegate* unmanaged<void*, ulong, nuint, nint, int> _memcpyDtoHAsync;
    private readonly delegate* unmanaged<ulong, ulong, nuint, nint, int> _memcpyDtoDAsync;
    private readonly delegate* unmanaged<ulong, byte, nuint, nint, int> _memsetD8Async;
    private readonly delegate* unmanaged<nint*, uint, int> _streamCreate;
    private readonly delegate* unmanaged<nint, int> _streamDestroy;
    private readonly delegate* unmanaged<nint, int> _streamSynchronize;
    private readonly delegate* unmanaged<nint, nint, uint, int> _streamWaitEvent;
    private readonly delegate* unmanaged<nint, int*, int> _streamIsCapturing;
    private readonly delegate* unmanaged<nint*, uint, int> _eventCreate;
    private readonly delegate* unmanaged<nint, nint, int> _eventRecord;
    private readonly delegate* unmanaged<nint, int> _eventQuery;
    private readonly delegate* unmanaged<nint, int> _eventSynchronize;
    private readonly delegate* unmanaged<float*, nint, nint, int> _eventElapsedTime;
    private readonly delegate* unmanaged<nint, int> _eventDestroy;
    private readonly delegate* unmanaged<nint*, void*, uint, int*, void**, int> _moduleLoadDataEx;
    private readonly delegate* unmanaged<nint, int> _moduleUnload;
    private readonly delegate* unmanaged<nint*, nint, byte*, int> _moduleGetFunction;
    private readonly delegate* unmanaged<int*, int, nint, int> _funcGetAttribute;
    private readonly delegate* unmanaged<nint, int, int, int> _funcSetAttribute;
    private readonly delegate* unmanaged<nint, uint, uint, uint, uint, uint, uint, uint, nint, void**, void**, int> _launchKernel;

    /// <summary>Null where the driver is older than CUDA 12.</summary>
    private readonly delegate* unmanaged<void*, int, uint, ulong, ulong*, ulong*, uint*, uint*, int, int, int, int, int> _tensorMapEncodeTiled;

    /// <param name="find">The address of a function by its name; 0 if there is none.</param>
    /// <exception cref="CudaException">One is missing: the driver is too old.</exception>
    public CudaDriver(Func<string, nint> find)
    {
        _getErrorName = (delegate* unmanaged<int, byte**, int>)Find("cuGetErrorName");
        _getErrorString = (delegate* unmanaged<int, byte**, int>)Find("cuGetErrorString");
        _init = (delegate* unmanaged<uint, int>)Find("cuInit");
        _driverGetVersion = (delegate* unmanaged<int*, int>)Find("cuDriverGetVersion");
        _deviceGetCount = (delegate* unmanaged<int*, int>)Find("cuDeviceGetCount");
        _deviceGet = (delegate* unmanaged<int*, int, int>)Find("cuDeviceGet");
        _deviceGetName = (delegate* unmanaged<byte*, int, int, int>)Find("cuDeviceGetName");
        _deviceGetAttribute = (delegate* unmanaged<int*, int, int, int>)Find("cuDeviceGetAttribute");
        _deviceTotalMem = (delegate* unmanaged<nuint*, int, int>)Find("cuDeviceTotalMem_v2");
        _devicePrimaryCtxRetain = (delegate* unmanaged<nint*, int, int>)Find("cuDevicePrimaryCtxRetain");
        _devicePrimaryCtxRelease = (delegate* unmanaged<int, int>)Find("cuDevicePrimaryCtxRelease_v2");
        _ctxGetCurrent = (delegate* unmanaged<nint*, int>)Find("cuCtxGetCurrent");
        _ctxPushCurrent = (delegate* unmanaged<nint, int>)Find("cuCtxPushCurrent_v2");
        _ctxPopCurrent = (delegate* unmanaged<nint*, int>)Find("cuCtxPopCurrent_v2");
        _ctxSynchronize = (delegate* unmanaged<int>)Find("cuCtxSynchronize");
        _threadExchangeStreamCaptureMode = (delegate* unmanaged<int*, int>)Find("cuThreadExchangeStreamCaptureMode");
        _memAlloc = (delegate* unmanaged<ulong*, nuint, int>)Find("cuMemAlloc_v2");
        _memAllocAsync = (delegate* unmanaged<ulong*, nuint, nint, int>)Find("cuMemAllocAsync");
        _memFree = (delegate* unmanaged<ulong, int>)Find("cuMemFree_v2");
        _memHostAlloc = (delegate* unmanaged<void**, nuint, uint, int>)Find("cuMemHostAlloc");
        _memFreeHost = (delegate* unmanaged<void*, int>)Find("cuMemFreeHost");
        _memHostGetDevicePointer = (delegate* unmanaged<ulong*, void*, uint, int>)Find("cuMemHostGetDevicePointer_v2");
        _memcpyHtoDAsync = (delegate* unmanaged<ulong, void*, nuint, nint, int>)Find("cuMemcpyHtoDAsync_v2");
        _memcpyDtoHAsync = (delegate* unmanaged<void*, ulong, nuint, nint, int>)Find("cuMemcpyDtoHAsync_v2");
        _memcpyDtoDAsync = (delegate* unmanaged<ulong, ulong, nuint, nint, int>)Find("cuMemcpyDtoDAsync_v2");
        _memsetD8Async = (delegate* unmanaged<ulong, byte, nuint, nint, int>)Find("cuMemsetD8Async");
        _streamCreate = (delegate* unmanaged<nint*, uint, int>)Find("cuStreamCreate");
        _streamDestroy = (delegate* unmanaged<nint, int>)Find("cuStreamDestroy_v2");
        _streamSynchronize = (delegate* unmanaged<nint, int>)Find("cuStreamSynchronize");
        _streamWaitEvent = (delegate* unmanaged<nint, nint, uint, int>)Find("cuStreamWaitEvent");
        _streamIsCapturing = (delegate* unmanaged<nint, int*, int>)Find("cuStreamIsCapturing");
        _eventCreate = (delegate* unmanaged<nint*, uint, int>)Find("cuEventCreate");
        _eventRecord = (delegate* unmanaged<nint, nint, int>)Find("cuEventRecord");
        _eventQuery = (delegate* unmanaged<nint, int>)Find("cuEventQuery");
        _eventSynchronize = (delegate* unmanaged<nint, int>)Find("cuEventSynchronize");
        _eventElapsedTime = (delegate* unmanaged<float*, nint, nint, int>)Find("cuEventElapsedTime");
        _eventDestroy = (delegate* unmanaged<nint, int>)Find("cuEventDestroy_v2");
        _moduleLoadDataEx = (delegate* unmanaged<nint*, void*, uint, int*, void**, int>)Find("cuModuleLoadDataEx");
        _linkCreate = (delegate* unmanaged<uint, int*, void**, nint*, int>)Find("cuLinkCreate_v2");
        _linkAddData = (delegate* unmanaged<nint, int, void*, nuint, byte*, uint, int*, void**, int>)Find("cuLinkAddData_v2");
        _linkComplete = (delegate* unmanaged<nint, void**, nuint*, int>)Find("cuLinkComplete");
        _linkDestroy = (delegate* unmanaged<nint, int>)Find("cuLinkDestroy");
        _moduleUnload = (delegate* unmanaged<nint, int>)Find("cuModuleUnload");
        _moduleGetFunction = (delegate* unmanaged<nint*, nint, byte*, int>)Find("cuModuleGetFunction");
        _funcGetAttribute = (delegate* unmanaged<int*, int, nint, int>)Find("cuFuncGetAttribute");
        _funcSetAttribute = (delegate* unmanaged<nint, int, int, int>)Find("cuFuncSetAttribute");
        _launchKernel = (delegate* unmanaged<nint, uint, uint, uint, uint, uint, uint, uint, nint, void**, void**, int>)Find("cuLaunchKernel");
        _tensorMapEncodeTiled = (delegate* unmanaged<void*, int, uint, ulong, ulong*, ulong*, uint*, uint*, int, int, int, int, int>)find("cuTensorMapEncodeTiled");

        nint Find(string name) => find(name) is var address and not 0 ? address : throw new CudaException($"The NVIDIA driver has no {name}: it is too old.");
    }

    /// <summary>A failure as text: <c>cuInit: CUDA_ERROR_NO_DEVICE (100): no CUDA-capable device is detected</c>.</summary>
    public string Describe(int result, string function)
    {
        byte* name = null, text = null;
        if (_getErrorName(result, &name) != Success || name == null) return $"{function}: error {result}, which the driver does not know";
        _ = _getErrorString(result, &text);
        return $"{function}: {Marshal.PtrToStringUTF8((nint)name)} ({result}): {Marshal.PtrToStringUTF8((nint)text) ?? "no description"}";
    }

    private void Check(int result, string function)
    {
        if (result != Success) Throw(result, function);
    }

    [System.Diagnostics.CodeAnalysis.DoesNotReturn]
    private void Throw(int result, string function) => throw new CudaException(Describe(result, function));
}
