using System.Runtime.InteropServices;

namespace FusedAttention.Comparison.Ggml;

/// <summary>ggml's numbers for element types.</summary>
internal enum GgmlType
{
    Float32 = 0,
    Float16 = 1,
    Q8Block = 8,
    BFloat16 = 30,
}

/// <summary>
/// ggml's C API: the base library and its CPU backend, which is built once for each generation of processors. The best one for this machine is found as llama.cpp does, by the
/// score that each gives itself.
/// </summary>
internal sealed unsafe class GgmlLibrary
{
    private const string BackendPrefix = "libggml-cpu-";

    private readonly nint _base;
    private readonly nint _backend;

    /// <param name="folder">Where the libraries are.</param>
    /// <param name="variant">The name of the backend to load; null for the best.</param>
    public GgmlLibrary(string folder, string? variant)
    {
        _base = NativeLibrary.Load(Path.Combine(folder, "libggml-base.so"));
        Variant = variant ?? Best(folder);
        _backend = NativeLibrary.Load(BackendPath(folder, Variant));
        if (Score(_backend) == 0) throw new NotSupportedException($"This machine cannot run ggml's backend '{Variant}'.");
        Version = Marshal.PtrToStringUTF8(((delegate* unmanaged<nint>)Base("ggml_version"))()) ?? "unknown";

        Init = (delegate* unmanaged<InitParameters, nint>)Base("ggml_init");
        Free = (delegate* unmanaged<nint, void>)Base("ggml_free");
        SetNoAlloc = (delegate* unmanaged<nint, byte, void>)Base("ggml_set_no_alloc");
        NewTensor = (delegate* unmanaged<nint, int, long, long, long, long, nint>)Base("ggml_new_tensor_4d");
        Permute = (delegate* unmanaged<nint, nint, int, int, int, int, nint>)Base("ggml_permute");
        Contiguous = (delegate* unmanaged<nint, nint, long, long, long, long, nint>)Base("ggml_cont_4d");
        MultiplyMatrices = (delegate* unmanaged<nint, nint, nint, nint>)Base("ggml_mul_mat");
        SetMultiplyPrecision = (delegate* unmanaged<nint, int, void>)Base("ggml_mul_mat_set_prec");
        SoftMax = (delegate* unmanaged<nint, nint, nint, float, float, nint>)Base("ggml_soft_max_ext");
        FlashAttention = (delegate* unmanaged<nint, nint, nint, nint, nint, float, float, float, nint>)Base("ggml_flash_attn_ext");
        SetFlashPrecision = (delegate* unmanaged<nint, int, void>)Base("ggml_flash_attn_ext_set_prec");
        Data = (delegate* unmanaged<nint, nint>)Base("ggml_get_data");
        NewGraph = (delegate* unmanaged<nint, nint>)Base("ggml_new_graph");
        BuildForward = (delegate* unmanaged<nint, nint, void>)Base("ggml_build_forward_expand");
        BufferFromPointer = (delegate* unmanaged<void*, nuint, nint>)Base("ggml_backend_cpu_buffer_from_ptr");
        PlaceTensor = (delegate* unmanaged<nint, nint, void*, int>)Base("ggml_backend_tensor_alloc");
        FreeBuffer = (delegate* unmanaged<nint, void>)Base("ggml_backend_buffer_free");
        FreeBackend = (delegate* unmanaged<nint, void>)Base("ggml_backend_free");
        Compute = (delegate* unmanaged<nint, nint, int>)Base("ggml_backend_graph_compute");
        InitThreadpoolParameters = (delegate* unmanaged<void*, int, void>)Base("ggml_threadpool_params_init");

        InitBackend = (delegate* unmanaged<nint>)Backend("ggml_backend_cpu_init");
        SetThreads = (delegate* unmanaged<nint, int, void>)Backend("ggml_backend_cpu_set_n_threads");
        SetThreadpool = (delegate* unmanaged<nint, nint, void>)Backend("ggml_backend_cpu_set_threadpool");
        NewThreadpool = (delegate* unmanaged<void*, nint>)Backend("ggml_threadpool_new");
        PauseThreadpool = (delegate* unmanaged<nint, void>)Backend("ggml_threadpool_pause");
        FreeThreadpool = (delegate* unmanaged<nint, void>)Backend("ggml_threadpool_free");
    }

    public string Version { get; }

    /// <summary>The processor generation that the backend is built for.</summary>
    public string Variant { get; }

    public delegate* unmanaged<InitParameters, nint> Init { get; }

    public delegate* unmanaged<nint, void> Free { get; }

    public delegate* unmanaged<nint, byte, void> SetNoAlloc { get; }

    public delegate* unmanaged<nint, int, long, long, long, long, nint> NewTensor { get; }

    public delegate* unmanaged<nint, nint, int, int, int, int, nint> Permute { get; }

    public delegate* unmanaged<nint, nint, long, long, long, long, nint> Contiguous { get; }

    public delegate* unmanaged<nint, nint, nint, nint> MultiplyMatrices { get; }

    public delegate* unmanaged<nint, int, void> SetMultiplyPrecision { get; }

    public delegate* unmanaged<nint, nint, nint, float, float, nint> SoftMax { get; }

    public delegate* unmanaged<nint, nint, nint, nint, nint, float, float, float, nint> FlashAttention { get; }

    public delegate* unmanaged<nint, int, void> SetFlashPrecision { get; }

    public delegate* unmanaged<nint, nint> Data { get; }

    public delegate* unmanaged<nint, nint> NewGraph { get; }

    public delegate* unmanaged<nint, nint, void> BuildForward { get; }

    public delegate* unmanaged<void*, nuint, nint> BufferFromPointer { get; }

    public delegate* unmanaged<nint, nint, void*, int> PlaceTensor { get; }

    public delegate* unmanaged<nint, void> FreeBuffer { get; }

    public delegate* unmanaged<nint> InitBackend { get; }

    public delegate* unmanaged<nint, void> FreeBackend { get; }

    public delegate* unmanaged<nint, nint, int> Compute { get; }

    public delegate* unmanaged<nint, int, void> SetThreads { get; }

    public delegate* unmanaged<nint, nint, void> SetThreadpool { get; }

    public delegate* unmanaged<void*, int, void> InitThreadpoolParameters { get; }

    public delegate* unmanaged<void*, nint> NewThreadpool { get; }

    public delegate* unmanaged<nint, void> PauseThreadpool { get; }

    public delegate* unmanaged<nint, void> FreeThreadpool { get; }

    private static string BackendPath(string folder, string variant) => Path.Combine(folder, $"{BackendPrefix}{variant}.so");

    /// <summary>Loads each backend in turn, asks it for its score (0: cannot run here), and lets it go.</summary>
    private static string Best(string folder)
    {
        string? best = null;
        int bestScore = 0;
        foreach (string path in Directory.GetFiles(folder, BackendPrefix + "*.so").Order(StringComparer.Ordinal))
        {
            nint library = NativeLibrary.Load(path);
            int score = Score(library);
            NativeLibrary.Free(library);
            if (score <= bestScore) continue;
            bestScore = score;
            best = Path.GetFileNameWithoutExtension(path)[BackendPrefix.Length..];
        }

        return best ?? throw new NotSupportedException($"None of ggml's backends in {folder} can run here.");
    }

    private static int Score(nint backend) => ((delegate* unmanaged<int>)NativeLibrary.GetExport(backend, "ggml_backend_score"))();

    private void* Base(string name) => (void*)NativeLibrary.GetExport(_base, name);

    private void* Backend(string name) => (void*)NativeLibrary.GetExport(_backend, name);

    /// <summary>The argument of <c>ggml_init</c>.</summary>
    public struct InitParameters
    {
        public nuint MemorySize;
        public void* Memory;
        public byte NoAlloc;
    }
}
