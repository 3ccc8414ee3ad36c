using System.Runtime.InteropServices;
using System.Text;

namespace FusedAttention.Cuda.Tests.Fakes;

/// <content>The functions.</content>
internal sealed unsafe partial class FakeDriver
{
    /// <summary>Events that were recorded and not reached, oldest first.</summary>
    private readonly List<nint> _order = [];

    private static FakeDriver Now => s_driver ?? throw new InvalidOperationException("There is no driver any more.");

    private static readonly Dictionary<string, nint> Functions = new(StringComparer.Ordinal)
    {
        ["cuGetErrorName"] = (nint)(delegate* unmanaged<int, byte**, int>)&GetErrorName,
        ["cuGetErrorString"] = (nint)(delegate* unmanaged<int, byte**, int>)&GetErrorString,
        ["cuInit"] = (nint)(delegate* unmanaged<uint, int>)&Init,
        ["cuDriverGetVersion"] = (nint)(delegate* unmanaged<int*, int>)&DriverGetVersion,
        ["cuDeviceGetCount"] = (nint)(delegate* unmanaged<int*, int>)&DeviceGetCount,
        ["cuDeviceGet"] = (nint)(delegate* unmanaged<int*, int, int>)&DeviceGet,
        ["cuDeviceGetName"] = (nint)(delegate* unmanaged<byte*, int, int, int>)&DeviceGetName,
        ["cuDeviceGetAttribute"] = (nint)(delegate* unmanaged<int*, int, int, int>)&DeviceGetAttribute,
        ["cuDeviceTotalMem_v2"] = (nint)(delegate* unmanaged<nuint*, int, int>)&DeviceTotalMem,
        ["cuDevicePrimaryCtxRetain"] = (nint)(delegate* unmanaged<nint*, int, int>)&PrimaryCtxRetain,
        ["cuDevicePrimaryCtxRelease_v2"] = (nint)(delegate* unmanaged<int, int>)&PrimaryCtxRelease,
        ["cuCtxGetCurrent"] = (nint)(delegate* unmanaged<nint*, int>)&CtxGetCurrent,
        ["cuCtxPushCurrent_v2"] = (nint)(delegate* unmanaged<nint, int>)&CtxPushCurrent,
        ["cuCtxPopCurrent_v2"] = (nint)(delegate* unmanaged<nint*, int>)&CtxPopCurrent,
        ["cuCtxSynchronize"] = (nint)(delegate* unmanaged<int>)&CtxSynchronize,
        ["cuThreadExchangeStreamCaptureMode"] = (nint)(delegate* unmanaged<int*, int>)&ExchangeCaptureMode,
        ["cuMemAlloc_v2"] = (nint)(delegate* unmanaged<ulong*, nuint, int>)&MemAlloc,
        ["cuMemAllocAsync"] = (nint)(delegate* unmanaged<ulong*, nuint, nint, int>)&MemAllocAsync,
        ["cuMemFree_v2"] = (nint)(delegate* unmanaged<ulong, int>)&MemFree,
        ["cuMemHostAlloc"] = (nint)(delegate* unmanaged<void**, nuint, uint, int>)&MemHostAlloc,
        ["cuMemFreeHost"] = (nint)(delegate* unmanaged<void*, int>)&MemFreeHost,
        ["cuMemHostGetDevicePointer_v2"] = (nint)(delegate* unmanaged<ulong*, void*, uint, int>)&MemHostGetDevicePointer,
        ["cuMemcpyHtoDAsync_v2"] = (nint)(delegate* unmanaged<ulong, void*, nuint, nint, int>)&MemcpyHtoD,
        ["cuMemcpyDtoHAsync_v2"] = (nint)(delegate* unmanaged<void*, ulong, nuint, nint, int>)&MemcpyDtoH,
        ["cuMemcpyDtoDAsync_v2"] = (nint)(delegate* unmanaged<ulong, ulong, nuint, nint, int>)&MemcpyDtoD,
        ["cuMemsetD8Async"] = (nint)(delegate* unmanaged<ulong, byte, nuint, nint, int>)&MemsetD8,
        ["cuStreamCreate"] = (nint)(delegate* unmanaged<nint*, uint, int>)&StreamCreate,
        ["cuStreamDestroy_v2"] = (nint)(delegate* unmanaged<nint, int>)&StreamDestroy,
        ["cuStreamSynchronize"] = (nint)(delegate* unmanaged<nint, int>)&StreamSynchronize,
        ["cuStreamWaitEvent"] = (nint)(delegate* unmanaged<nint, nint, uint, int>)&StreamWaitEvent,
        ["cuStreamIsCapturing"] = (nint)(delegate* unmanaged<nint, int*, int>)&StreamIsCapturing,
        ["cuEventCreate"] = (nint)(delegate* unmanaged<nint*, uint, int>)&EventCreate,
        ["cuEventRecord"] = (nint)(delegate* unmanaged<nint, nint, int>)&EventRecord,
        ["cuEventQuery"] = (nint)(delegate* unmanaged<nint, int>)&EventQuery,
        ["cuEventSynchronize"] = (nint)(delegate* unmanaged<nint, int>)&EventSynchronize,
        ["cuEventElapsedTime"] = (nint)(delegate* unmanaged<float*, nint, nint, int>)&EventElapsedTime,
        ["cuEventDestroy_v2"] = (nint)(delegate* unmanaged<nint, int>)&EventDestroy,
        ["cuModuleLoadDataEx"] = (nint)(delegate* unmanaged<nint*, byte*, uint, int*, void**, int>)&ModuleLoadDataEx,
        ["cuLinkCreate_v2"] = (nint)(delegate* unmanaged<uint, int*, void**, nint*, int>)&LinkCreate,
        ["cuLinkAddData_v2"] = (nint)(delegate* unmanaged<nint, int, void*, nuint, byte*, uint, int*, void**, int>)&LinkAddData,
        ["cuLinkComplete"] = (nint)(delegate* unmanaged<nint, void**, nuint*, int>)&LinkComplete,
        ["cuLinkDestroy"] = (nint)(delegate* unmanaged<nint, int>)&LinkDestroy,
        ["cuModuleUnload"] = (nint)(delegate* unmanaged<nint, int>)&ModuleUnload,
        ["cuModuleGetFunction"] = (nint)(delegate* unmanaged<nint*, nint, byte*, int>)&ModuleGetFunction,
        ["cuFuncGetAttribute"] = (nint)(delegate* unmanaged<int*, int, nint, int>)&FuncGetAttribute,
        ["cuFuncSetAttribute"] = (nint)(delegate* unmanaged<nint, int, int, int>)&FuncSetAttribute,
        ["cuLaunchKernel"] = (nint)(delegate* unmanaged<nint, uint, uint, uint, uint, uint, uint, uint, nint, void**, void**, int>)&LaunchKernel,
        ["cuTensorMapEncodeTiled"] = (nint)(delegate* unmanaged<void*, int, uint, ulong, ulong*, ulong*, uint*, uint*, int, int, int, int, int>)&TensorMapEncodeTiled,
    };

    /// <summary>What a call answers before it does anything: 0 if it may.</summary>
    /// <param name="name">The function.</param>
    /// <param name="needsContext">Whether the device's context must be current.</param>
    /// <param name="isUnsafe">Whether no graph can have it.</param>
    private int Ask(string name, bool needsContext = true, bool isUnsafe = false)
    {
        if (Failing.TryGetValue(name, out int failure)) return failure;
        if (needsContext && Current is < 0x100 or >= 0x200) return InvalidContext;
        return isUnsafe && IsAnyCapturing && t_captureMode != 2 ? CaptureUnsupported : 0;
    }

    private void Log(string line)
    {
        if (!Records) return;
        lock (_gate) _log.Add(line);
    }

    private static byte* Literal(ReadOnlySpan<byte> text) => (byte*)System.Runtime.CompilerServices.Unsafe.AsPointer(ref MemoryMarshal.GetReference(text));

    [UnmanagedCallersOnly]
    private static int GetErrorName(int result, byte** name)
    {
        *name = result switch
        {
            1 => Literal("CUDA_ERROR_INVALID_VALUE\0"u8),
            2 => Literal("CUDA_ERROR_OUT_OF_MEMORY\0"u8),
            100 => Literal("CUDA_ERROR_NO_DEVICE\0"u8),
            201 => Literal("CUDA_ERROR_INVALID_CONTEXT\0"u8),
            218 => Literal("CUDA_ERROR_INVALID_PTX\0"u8),
            700 => Literal("CUDA_ERROR_ILLEGAL_ADDRESS\0"u8),
            900 => Literal("CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED\0"u8),
            _ => null,
        };
        return *name == null ? 1 : 0;
    }

    [UnmanagedCallersOnly]
    private static int GetErrorString(int result, byte** text)
    {
        *text = Literal("what went wrong\0"u8);
        return 0;
    }

    [UnmanagedCallersOnly]
    private static int Init(uint flags) => Now.Ask("cuInit", needsContext: false);

    [UnmanagedCallersOnly]
    private static int DriverGetVersion(int* version)
    {
        *version = Now.Version;
        return 0;
    }

    [UnmanagedCallersOnly]
    private static int DeviceGetCount(int* count)
    {
        *count = Now.Devices.Count;
        return 0;
    }

    [UnmanagedCallersOnly]
    private static int DeviceGet(int* device, int ordinal)
    {
        *device = ordinal;
        return 0;
    }

    [UnmanagedCallersOnly]
    private static int DeviceGetName(byte* name, int length, int device)
    {
        name[Encoding.UTF8.GetBytes(Now.Devices[device].Name, new Span<byte>(name, length - 1))] = 0;
        return 0;
    }

    [UnmanagedCallersOnly]
    private static int DeviceGetAttribute(int* value, int attribute, int device)
    {
        *value = attribute switch
        {
            16 => 132,
            38 => 50 << 20,
            75 => Now.Devices[device].Major,
            76 => Now.Devices[device].Minor,
            97 => 232448,
            115 => Now.HasPools ? 1 : 0,
            _ => -1,
        };
        return *value < 0 ? 1 : 0;
    }

    [UnmanagedCallersOnly]
    private static int DeviceTotalMem(nuint* bytes, int device)
    {
        *bytes = (nuint)80 << 30;
        return 0;
    }

    [UnmanagedCallersOnly]
    private static int PrimaryCtxRetain(nint* context, int device)
    {
        Now.Log($"retain {device}");
        *context = 0x100 + device;
        return Now.Ask("cuDevicePrimaryCtxRetain", needsContext: false);
    }

    [UnmanagedCallersOnly]
    private static int PrimaryCtxRelease(int device)
    {
        Now.Log($"release {device}");
        return 0;
    }

    [UnmanagedCallersOnly]
    private static int CtxGetCurrent(nint* context)
    {
        *context = Current;
        return 0;
    }

    [UnmanagedCallersOnly]
    private static int CtxPushCurrent(nint context)
    {
        if (Now.Records) Now.Log($"push {context:x}");
        int result = Now.Ask("cuCtxPushCurrent", needsContext: false);
        if (result == 0) Push(context);
        return result;
    }

    [UnmanagedCallersOnly]
    private static int CtxPopCurrent(nint* context)
    {
        *context = t_contexts!.Pop();
        if (Now.Records) Now.Log($"pop {*context:x}");
        return 0;
    }

    [UnmanagedCallersOnly]
    private static int CtxSynchronize()
    {
        int result = Now.Ask("cuCtxSynchronize", isUnsafe: true);
        if (result == 0) Now.Reach(Now._order.Count);
        return result;
    }

    [UnmanagedCallersOnly]
    private static int ExchangeCaptureMode(int* mode)
    {
        (t_captureMode, *mode) = (*mode, t_captureMode);
        return 0;
    }

    [UnmanagedCallersOnly]
    private static int MemAlloc(ulong* address, nuint bytes)
    {
        Now.Log($"alloc {bytes}");
        return Now.Allocate("cuMemAlloc", address, bytes);
    }

    [UnmanagedCallersOnly]
    private static int MemAllocAsync(ulong* address, nuint bytes, nint stream)
    {
        Now.Log($"alloc {bytes} on {stream:x}");
        return Now.Allocate("cuMemAllocAsync", address, bytes);
    }

    private int Allocate(string name, ulong* address, nuint bytes)
    {
        int result = Ask(name, isUnsafe: true);
        if (result != 0) return result;
        *address = (ulong)NativeMemory.AlignedAlloc(bytes, 512);
        lock (_gate) _memory.Add(*address);
        return 0;
    }

    [UnmanagedCallersOnly]
    private static int MemFree(ulong address) => Now.Free(address);

    private int Free(ulong address)
    {
        int result = Ask("cuMemFree", isUnsafe: true);
        if (result != 0) return result;
        lock (_gate)
        {
            if (!_memory.Remove(address)) return 1;
        }

        NativeMemory.AlignedFree((void*)address);
        return 0;
    }

    [UnmanagedCallersOnly]
    private static int MemHostAlloc(void** pointer, nuint bytes, uint flags)
    {
        Now.Log($"host alloc {bytes} flags {flags}");
        return Now.Allocate("cuMemHostAlloc", (ulong*)pointer, bytes);
    }

    [UnmanagedCallersOnly]
    private static int MemFreeHost(void* pointer) => Now.Free((ulong)pointer);

    [UnmanagedCallersOnly]
    private static int MemHostGetDevicePointer(ulong* address, void* pointer, uint flags)
    {
        *address = (ulong)pointer;
        return Now.Ask("cuMemHostGetDevicePointer");
    }

    private int CopyBytes(string name, void* to, void* from, nuint bytes, nint stream)
    {
        if (Records) Log($"{name} {bytes} on {stream:x}");
        int result = Ask(name);
        if (result == 0) NativeMemory.Copy(from, to, bytes);
        return result;
    }

    [UnmanagedCallersOnly]
    private static int MemcpyHtoD(ulong to, void* from, nuint bytes, nint stream) => Now.CopyBytes("cuMemcpyHtoDAsync", (void*)to, from, bytes, stream);

    [UnmanagedCallersOnly]
    private static int MemcpyDtoH(void* to, ulong from, nuint bytes, nint stream) => Now.CopyBytes("cuMemcpyDtoHAsync", to, (void*)from, bytes, stream);

    [UnmanagedCallersOnly]
    private static int MemcpyDtoD(ulong to, ulong from, nuint bytes, nint stream) => Now.CopyBytes("cuMemcpyDtoDAsync", (void*)to, (void*)from, bytes, stream);

    [UnmanagedCallersOnly]
    private static int MemsetD8(ulong address, byte value, nuint bytes, nint stream)
    {
        int result = Now.Ask("cuMemsetD8Async");
        if (result == 0) NativeMemory.Fill((void*)address, bytes, value);
        return result;
    }

    [UnmanagedCallersOnly]
    private static int StreamCreate(nint* stream, uint flags)
    {
        *stream = (nint)Interlocked.Increment(ref Now._handles);
        Now.Log($"stream {*stream:x} flags {flags}");
        return Now.Ask("cuStreamCreate", isUnsafe: true);
    }

    [UnmanagedCallersOnly]
    private static int StreamDestroy(nint stream)
    {
        Now.Log($"destroy stream {stream:x}");
        return Now.Ask("cuStreamDestroy");
    }

    [UnmanagedCallersOnly]
    private static int StreamSynchronize(nint stream) => Now.Ask("cuStreamSynchronize", isUnsafe: true);

    [UnmanagedCallersOnly]
    private static int StreamWaitEvent(nint stream, nint awaited, uint flags)
    {
        Now.Log($"{stream:x} waits for {awaited:x}");
        return Now.Ask("cuStreamWaitEvent");
    }

    [UnmanagedCallersOnly]
    private static int StreamIsCapturing(nint stream, int* status)
    {
        *status = stream == Now.Capturing ? 1 : 0;
        return Now.Ask("cuStreamIsCapturing");
    }

    [UnmanagedCallersOnly]
    private static int EventCreate(nint* created, uint flags)
    {
        FakeDriver now = Now;
        *created = (nint)Interlocked.Increment(ref now._handles);
        now.Log($"event {*created:x} flags {flags}");
        int result = now.Ask("cuEventCreate", isUnsafe: true);
        lock (now._gate)
        {
            if (result == 0) now._events.Add(*created, false);
        }

        return result;
    }

    [UnmanagedCallersOnly]
    private static int EventRecord(nint recorded, nint stream)
    {
        FakeDriver now = Now;
        int result = now.Ask("cuEventRecord");
        if (result != 0) return result;
        lock (now._gate)
        {
            if (!now._events.ContainsKey(recorded)) return 1;
            now._events[recorded] = now.EndsAtOnce;
            if (!now.EndsAtOnce) now._order.Add(recorded);
        }

        return 0;
    }

    [UnmanagedCallersOnly]
    private static int EventQuery(nint asked)
    {
        FakeDriver now = Now;
        int result = now.Ask("cuEventQuery", isUnsafe: true);
        if (result != 0) return result;
        lock (now._gate) return !now._events.TryGetValue(asked, out bool isReached) ? 1 : isReached ? 0 : NotReady;
    }

    [UnmanagedCallersOnly]
    private static int EventSynchronize(nint awaited)
    {
        FakeDriver now = Now;
        now.OnEventSynchronize?.Invoke();
        int result = now.Ask("cuEventSynchronize", isUnsafe: true);
        if (result != 0) return result;
        lock (now._gate)
        {
            if (!now._events.TryGetValue(awaited, out bool isReached)) return 1;
            for (; !isReached; isReached = now._events[awaited])
            {
                now._events[now._order[0]] = true;
                now._order.RemoveAt(0);
            }
        }

        return 0;
    }

    [UnmanagedCallersOnly]
    private static int EventElapsedTime(float* milliseconds, nint start, nint end)
    {
        FakeDriver now = Now;
        int result = now.Ask("cuEventElapsedTime");
        *milliseconds = 2.5f;
        if (result != 0) return result;
        lock (now._gate) return !now._events.TryGetValue(start, out bool started) || !now._events.TryGetValue(end, out bool ended) ? 1 : started && ended ? 0 : NotReady;
    }

    [UnmanagedCallersOnly]
    private static int EventDestroy(nint destroyed)
    {
        lock (Now._gate) return Now._events.Remove(destroyed) ? 0 : 1;
    }

    [UnmanagedCallersOnly]
    private static int ModuleLoadDataEx(nint* module, byte* text, uint count, int* options, void** values)
    {
        FakeDriver now = Now;
        string ptx = Marshal.PtrToStringUTF8((nint)text)!;
        now.Log($"load {ptx}");
        now.OnLoad?.Invoke(ptx);
        int result = string.Equals(ptx, now.Refused, StringComparison.Ordinal) ? InvalidImage : now.Ask("cuModuleLoadDataEx", isUnsafe: true);
        now.WriteLogs(count, options, values);
        *module = (nint)Interlocked.Increment(ref now._handles);
        return result;
    }

    [UnmanagedCallersOnly]
    private static int ModuleUnload(nint module)
    {
        Now.Log("unload");
        return Now.Ask("cuModuleUnload");
    }

    [UnmanagedCallersOnly]
    private static int ModuleGetFunction(nint* function, nint module, byte* name)
    {
        *function = module;
        Now.Log($"function {Marshal.PtrToStringUTF8((nint)name)}");
        return Now.Ask("cuModuleGetFunction");
    }

    [UnmanagedCallersOnly]
    private static int FuncGetAttribute(int* value, int attribute, nint function)
    {
        *value = attribute switch { 0 => Now.MaxThreads, 3 => Now.LocalBytes, 4 => 40, _ => -1 };
        return Now.Ask("cuFuncGetAttribute");
    }

    [UnmanagedCallersOnly]
    private static int FuncSetAttribute(nint function, int attribute, int value)
    {
        Now.Log($"attribute {attribute} = {value}");
        return Now.Ask("cuFuncSetAttribute");
    }

    [UnmanagedCallersOnly]
    private static int LaunchKernel(nint function, uint x, uint y, uint z, uint threads, uint threadsY, uint threadsZ, uint sharedBytes, nint stream, void** parameters, void** extra)
    {
        FakeDriver now = Now;
        int result = now.Ask("cuLaunchKernel");
        if (result != 0) return result;
        if (extra != null || x * y * z == 0 || threadsY != 1 || threadsZ != 1) return 1;
        if (!now.Records) return 0;
        byte[] given = parameters == null ? [] : new Span<byte>(parameters[0], now.ParameterBytes).ToArray();
        now.Log($"launch {x} x {y} x {z} of {threads}, {sharedBytes} shared, on {stream:x}");
        lock (now._gate) now.Launched.Add(given);
        return 0;
    }

    /// <summary>What the real one refuses of the maps that are asked for here; the map has the address, the lengths and the box.</summary>
    [UnmanagedCallersOnly]
    private static int TensorMapEncodeTiled(
        void* map, int type, uint rank, ulong address, ulong* lengths, ulong* strides, uint* box, uint* elementStrides, int interleave, int swizzle, int promotion, int fill)
    {
        FakeDriver now = Now;
        int result = now.Ask("cuTensorMapEncodeTiled");
        if (result != 0) return result;
        bool isRight = (nuint)map % 64 == 0 && type is 6 or 9 && rank == 4 && address % 16 == 0 && (interleave, swizzle, promotion, fill) == (0, 3, 3, 0) && box[0] * 2 <= 128;
        for (int i = 0; i < 4; i++) isRight &= lengths[i] is > 0 and <= 1UL << 32 && box[i] is > 0 and <= 256 && elementStrides[i] == 1;
        for (int i = 0; i < 3; i++) isRight &= strides[i] is > 0 and < 1UL << 40 && strides[i] % 16 == 0;
        if (!isRight) return 1;
        ulong[] told = [address, lengths[0], lengths[1], lengths[2], lengths[3], strides[0], strides[1], strides[2], box[0], box[1], box[2], box[3], (ulong)type];
        new Span<byte>(map, 128).Clear();
        told.CopyTo(new Span<ulong>(map, 16));
        return 0;
    }
}
