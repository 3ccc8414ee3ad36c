using System.Runtime.InteropServices;

namespace FusedAttention.Cuda.Driver;

/// <content>Devices, their contexts, and what a thread has of them.</content>
internal sealed unsafe partial class CudaDriver
{
    public const int AttributeMultiprocessorCount = 16;
    public const int AttributeL2CacheSize = 38;
    public const int AttributeComputeCapabilityMajor = 75;
    public const int AttributeComputeCapabilityMinor = 76;
    public const int AttributeMaxSharedMemoryPerBlockOptin = 97;
    public const int AttributeMemoryPoolsSupported = 115;

    /// <summary>CU_STREAM_CAPTURE_MODE_RELAXED: calls that no graph can have are allowed while one is captured, and do not end it.</summary>
    private const int CaptureModeRelaxed = 2;

    /// <summary>1000 times the major and 10 times the minor number of the newest CUDA version that the driver knows.</summary>
    public int Version
    {
        get
        {
            int version;
            Check(_driverGetVersion(&version), "cuDriverGetVersion");
            return version;
        }
    }

    public int DeviceCount
    {
        get
        {
            int count;
            Check(_deviceGetCount(&count), "cuDeviceGetCount");
            return count;
        }
    }

    public void Init() => Check(_init(0), "cuInit");

    public int DeviceGet(int ordinal)
    {
        int device;
        Check(_deviceGet(&device, ordinal), "cuDeviceGet");
        return device;
    }

    public string DeviceName(int device)
    {
        const int Length = 256;
        byte* name = stackalloc byte[Length];
        Check(_deviceGetName(name, Length, device), "cuDeviceGetName");
        return Marshal.PtrToStringUTF8((nint)name) ?? "";
    }

    public int DeviceAttribute(int device, int attribute)
    {
        int value;
        Check(_deviceGetAttribute(&value, attribute, device), "cuDeviceGetAttribute");
        return value;
    }

    public long DeviceTotalMemory(int device)
    {
        nuint bytes;
        Check(_deviceTotalMem(&bytes, device), "cuDeviceTotalMem");
        return (long)bytes;
    }

    public nint PrimaryContextRetain(int device)
    {
        nint context;
        Check(_devicePrimaryCtxRetain(&context, device), "cuDevicePrimaryCtxRetain");
        return context;
    }

    /// <summary>Says nothing of failure: nobody could do anything about it.</summary>
    public void PrimaryContextRelease(int device) => _ = _devicePrimaryCtxRelease(device);

    public nint ContextCurrent()
    {
        nint context;
        Check(_ctxGetCurrent(&context), "cuCtxGetCurrent");
        return context;
    }

    public void ContextPush(nint context) => Check(_ctxPushCurrent(context), "cuCtxPushCurrent");

    /// <summary>Says nothing of failure: what was done in the context is done.</summary>
    public void ContextPop()
    {
        nint context;
        _ = _ctxPopCurrent(&context);
    }

    public void ContextSynchronize() => Check(_ctxSynchronize(), "cuCtxSynchronize");

    /// <summary>Lets this thread make calls that no graph can have.</summary>
    /// <returns>What it was allowed before, for <see cref="RestoreCapture"/>.</returns>
    public int RelaxCapture()
    {
        int mode = CaptureModeRelaxed;
        Check(_threadExchangeStreamCaptureMode(&mode), "cuThreadExchangeStreamCaptureMode");
        return mode;
    }

    public void RestoreCapture(int mode) => _ = _threadExchangeStreamCaptureMode(&mode);
}
