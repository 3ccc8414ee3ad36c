using System.Runtime.InteropServices;

namespace FusedAttention.Comparison.Torch;

/// <summary>
/// The stable C interface of libtorch's CPU library, by which compiled models and extensions call operators. TorchSharp's own library is not needed, whose C++ runtime is newer than some systems have.
/// </summary>
internal sealed unsafe class TorchLibrary
{
    /// <summary>The layout of what <c>torch_call_dispatcher</c> takes: that of version 2.10, as <c>TORCH_ABI_VERSION</c> has it.</summary>
    private const ulong ExtensionVersion = (2UL << 56) | (10UL << 48);

    private readonly delegate* unmanaged<byte*, byte*, ulong*, ulong, int> _call;
    private readonly delegate* unmanaged<void*, long, long*, long*, long, int, int, int, nint*, int> _fromMemory;
    private readonly delegate* unmanaged<nint, nint*, int> _copyHandle;
    private readonly delegate* unmanaged<nint, int> _delete;
    private readonly delegate* unmanaged<nint, void**, int> _data;
    private readonly delegate* unmanaged<nint, long**, int> _strides;
    private readonly delegate* unmanaged<int, void> _setThreads;
    private readonly int _cpu;
    private readonly int[] _types;

    /// <param name="path">libtorch_cpu.so.</param>
    public TorchLibrary(string path)
    {
        nint library = NativeLibrary.Load(path);
        _call = (delegate* unmanaged<byte*, byte*, ulong*, ulong, int>)Export("torch_call_dispatcher");
        _fromMemory = (delegate* unmanaged<void*, long, long*, long*, long, int, int, int, nint*, int>)Export("aoti_torch_create_tensor_from_blob");
        _copyHandle = (delegate* unmanaged<nint, nint*, int>)Export("aoti_torch_new_tensor_handle");
        _delete = (delegate* unmanaged<nint, int>)Export("aoti_torch_delete_tensor_object");
        _data = (delegate* unmanaged<nint, void**, int>)Export("aoti_torch_get_data_ptr");
        _strides = (delegate* unmanaged<nint, long**, int>)Export("aoti_torch_get_strides");
        _setThreads = (delegate* unmanaged<int, void>)Export("_ZN2at15set_num_threadsEi"); // at::set_num_threads: the C interface only reads the number
        _cpu = Number("aoti_torch_device_type_cpu");
        _types = [Number("aoti_torch_dtype_float32"), Number("aoti_torch_dtype_float16"), Number("aoti_torch_dtype_bfloat16")];
        ulong version = ((delegate* unmanaged<ulong>)Export("aoti_torch_abi_version"))();
        Version = $"{version >> 56}.{(version >> 48) & 0xFF}.{(version >> 40) & 0xFF}";

        void* Export(string name) => (void*)NativeLibrary.GetExport(library, name);

        int Number(string name) => ((delegate* unmanaged<int>)Export(name))();
    }

    public string Version { get; }

    /// <summary>Threads of the whole process's calls from now on.</summary>
    public void SetThreads(int threads) => _setThreads(threads);

    /// <summary>A tensor over memory that the caller owns.</summary>
    public nint CreateTensor(AttentionElementType type, void* memory, ReadOnlySpan<long> sizes, ReadOnlySpan<long> strides)
    {
        nint tensor;
        fixed (long* size = sizes, stride = strides) Check(_fromMemory(memory, sizes.Length, size, stride, 0, _types[(int)type], _cpu, 0, &tensor));
        return tensor;
    }

    public void Delete(nint tensor)
    {
        if (tensor != 0) Check(_delete(tensor));
    }

    public void* Data(nint tensor)
    {
        void* data;
        Check(_data(tensor, &data));
        return data;
    }

    /// <summary>In elements; valid as long as the tensor.</summary>
    public ReadOnlySpan<long> Strides(nint tensor, int rank)
    {
        long* strides;
        Check(_strides(tensor, &strides));
        return new(strides, rank);
    }

    /// <summary>torch.nn.functional.scaled_dot_product_attention with its default scale, over <c>[batch, head, token, dim]</c>; a new tensor.</summary>
    public nint ScaledDotProductAttention(nint query, nint key, nint value, bool isCausal, bool isGrouped)
    {
        // Arguments and results share a stack of 8-byte words; 0 is None. Handles in it become the callee's.
        ulong* stack = stackalloc ulong[8];
        stack[0] = Copy(query);
        stack[1] = Copy(key);
        stack[2] = Copy(value);
        stack[3] = 0; // mask
        stack[4] = 0; // dropout, 0.0
        stack[5] = isCausal ? 1UL : 0;
        stack[6] = 0; // scale
        stack[7] = isGrouped ? 1UL : 0;
        fixed (byte* name = "aten::scaled_dot_product_attention\0"u8)
        fixed (byte* overload = "\0"u8)
        {
            Check(_call(name, overload, stack, ExtensionVersion));
        }

        return (nint)stack[0];
    }

    private static void Check(int status)
    {
        if (status != 0) throw new InvalidOperationException($"torch ended a call with status {status}; its own words are in the error output.");
    }

    private ulong Copy(nint tensor)
    {
        nint copy;
        Check(_copyHandle(tensor, &copy));
        return (ulong)copy;
    }
}
