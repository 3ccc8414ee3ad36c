using System.Runtime.InteropServices;
using FusedAttention.Comparison.Contenders;

namespace FusedAttention.Comparison.Onnx;

/// <summary>
/// ONNX Runtime's C API. It is one table of function pointers whose order never changes; the few entries used here are named by their place in it. One environment a process.
/// </summary>
internal sealed unsafe class OrtLibrary : IDisposable
{
    private const uint ApiVersion = 17;
    private const int LogFatal = 4;

    private readonly nint _library;
    private readonly nint* _api;
    private readonly nint _environment;
    private readonly nint _memoryInfo;

    public OrtLibrary(string path)
    {
        _library = NativeLibrary.Load(path);
        var getBase = (delegate* unmanaged<nint*>)NativeLibrary.GetExport(_library, "OrtGetApiBase");
        nint* apiBase = getBase();
        _api = ((delegate* unmanaged<uint, nint*>)apiBase[0])(ApiVersion);
        if (_api == null) throw new NotSupportedException($"{path} does not have version {ApiVersion} of the C API.");
        Version = Marshal.PtrToStringUTF8(((delegate* unmanaged<nint>)apiBase[1])()) ?? "unknown";
        fixed (byte* name = "comparison\0"u8)
        fixed (nint* environment = &_environment)
        fixed (nint* memoryInfo = &_memoryInfo)
        {
            Check(((delegate* unmanaged<int, byte*, nint*, nint>)_api[Entry.CreateEnv])(LogFatal, name, environment));
            Check(((delegate* unmanaged<int, int, nint*, nint>)_api[Entry.CreateCpuMemoryInfo])(1, 0, memoryInfo));
        }
    }

    public string Version { get; }

    public nint CreateSession(byte[] model, int threads)
    {
        nint options;
        Check(((delegate* unmanaged<nint*, nint>)_api[Entry.CreateSessionOptions])(&options));
        try
        {
            Check(((delegate* unmanaged<nint, int, nint>)_api[Entry.SetIntraOpNumThreads])(options, threads));
            Check(((delegate* unmanaged<nint, int, nint>)_api[Entry.SetInterOpNumThreads])(options, 1));
            nint session;
            fixed (byte* bytes = model)
            {
                Check(((delegate* unmanaged<nint, byte*, nuint, nint, nint*, nint>)_api[Entry.CreateSessionFromArray])(_environment, bytes, (nuint)model.Length, options, &session));
            }

            return session;
        }
        finally
        {
            Release(Entry.ReleaseSessionOptions, options);
        }
    }

    /// <summary>A tensor over memory that the caller owns.</summary>
    public nint CreateTensor(OnnxValue value, byte* data)
    {
        nint tensor;
        fixed (long* dims = value.Dims)
        {
            Check(((delegate* unmanaged<nint, void*, nuint, long*, nuint, int, nint*, nint>)_api[Entry.CreateTensorWithDataAsOrtValue])(
                _memoryInfo, data, (nuint)value.Bytes, dims, (nuint)value.Dims.Length, (int)value.Type, &tensor));
        }

        return tensor;
    }

    public void Run(nint session, byte** inputNames, nint* inputs, int inputCount, byte** outputNames, nint* outputs, int outputCount)
    {
        nint status = ((delegate* unmanaged<nint, nint, byte**, nint*, nuint, byte**, nuint, nint*, nint>)_api[Entry.Run])(
            session, 0, inputNames, inputs, (nuint)inputCount, outputNames, (nuint)outputCount, outputs);
        if (status != 0) Check(status);
    }

    public void ReleaseSession(nint session) => Release(Entry.ReleaseSession, session);

    public void ReleaseTensor(nint tensor) => Release(Entry.ReleaseValue, tensor);

    public void Dispose()
    {
        // The library stays loaded: its threads and static objects do not expect to be unmapped.
        Release(Entry.ReleaseMemoryInfo, _memoryInfo);
        Release(Entry.ReleaseEnv, _environment);
    }

    private void Release(int entry, nint handle)
    {
        if (handle != 0) ((delegate* unmanaged<nint, void>)_api[entry])(handle);
    }

    private void Check(nint status)
    {
        if (status == 0) return;
        string message = Marshal.PtrToStringUTF8(((delegate* unmanaged<nint, nint>)_api[Entry.GetErrorMessage])(status)) ?? "unknown error";
        Release(Entry.ReleaseStatus, status);
        throw new NotOfferedException(message);
    }

    /// <summary>Places in the table.</summary>
    private static class Entry
    {
        public const int GetErrorMessage = 2;
        public const int CreateEnv = 3;
        public const int CreateSessionFromArray = 8;
        public const int Run = 9;
        public const int CreateSessionOptions = 10;
        public const int SetIntraOpNumThreads = 24;
        public const int SetInterOpNumThreads = 25;
        public const int CreateTensorWithDataAsOrtValue = 49;
        public const int CreateCpuMemoryInfo = 69;
        public const int ReleaseEnv = 92;
        public const int ReleaseStatus = 93;
        public const int ReleaseMemoryInfo = 94;
        public const int ReleaseSession = 95;
        public const int ReleaseValue = 96;
        public const int ReleaseSessionOptions = 100;
    }
}
