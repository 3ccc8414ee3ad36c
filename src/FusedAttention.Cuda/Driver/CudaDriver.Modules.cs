using System.Text;

namespace FusedAttention.Cuda.Driver;

/// <content>Machine code and launches.</content>
internal sealed unsafe partial class CudaDriver
{
    public const int FunctionMaxThreads = 0;
    public const int FunctionLocalBytes = 3;
    public const int FunctionRegisters = 4;
    public const int FunctionMaxDynamicSharedBytes = 8;

    /// <summary>The assembler's log is at most so long; more is cut off. Verbose ones have some lines a function.</summary>
    private const int LogBytes = 64 << 10;

    /// <summary>CU_JIT_INFO_LOG_BUFFER, its size, CU_JIT_ERROR_LOG_BUFFER, its size, CU_JIT_LOG_VERBOSE.</summary>
    private static ReadOnlySpan<int> LogOptions => [3, 4, 5, 6, 12];

    /// <summary>Assembles a text, which takes milliseconds to seconds, and loads the machine code into the current context.</summary>
    /// <param name="text">PTX.</param>
    /// <param name="module">0 if it failed.</param>
    /// <param name="info">What the assembler had to say; empty where the driver had the machine code in its cache on disk.</param>
    /// <param name="errors">Why it failed.</param>
    /// <returns><see cref="Success"/>, or what went wrong.</returns>
    public int ModuleLoad(string text, out nint module, out string info, out string errors) => ModuleLoad(BytesOf(text), out module, out info, out errors);

    /// <summary>Loads machine code, or a text that ends with a zero.</summary>
    /// <inheritdoc cref="ModuleLoad(string, out nint, out string, out string)"/>
    public int ModuleLoad(ReadOnlySpan<byte> image, out nint module, out string info, out string errors)
    {
        byte[] infoLog = new byte[LogBytes], errorLog = new byte[LogBytes];
        nint loaded = 0;
        int result;
        fixed (byte* source = image, infoText = infoLog, errorText = errorLog)
        fixed (int* options = LogOptions)
        {
            void** values = stackalloc void*[] { infoText, (void*)LogBytes, errorText, (void*)LogBytes, (void*)1 };
            result = _moduleLoadDataEx(&loaded, source, (uint)LogOptions.Length, options, values);
        }

        module = result == Success ? loaded : 0;
        info = TextOf(infoLog);
        errors = TextOf(errorLog);
        return result;
    }

    /// <summary>Says nothing of failure.</summary>
    public void ModuleUnload(nint module) => _ = _moduleUnload(module);

    public nint ModuleGetFunction(nint module, string name)
    {
        nint function;
        fixed (byte* first = BytesOf(name)) Check(_moduleGetFunction(&function, module, first), "cuModuleGetFunction");
        return function;
    }

    public int FunctionAttribute(nint function, int attribute)
    {
        int value;
        Check(_funcGetAttribute(&value, attribute, function), "cuFuncGetAttribute");
        return value;
    }

    public void SetFunctionAttribute(nint function, int attribute, int value) => Check(_funcSetAttribute(function, attribute, value), "cuFuncSetAttribute");

    /// <summary>
    /// Queues a launch; the kernel's one parameter, of which the driver reads as many bytes as the kernel's text declares, is copied before this returns.
    /// </summary>
    /// <remarks>
    /// By its address, and not as a buffer of all parameters: the buffer has them where the assembler puts them, and a parameter that is aligned to 64 begins 48 bytes behind the first place that there is.
    /// </remarks>
    /// <returns><see cref="Success"/>, or what went wrong.</returns>
    public int Launch(nint function, uint x, uint y, uint z, uint threads, uint sharedBytes, nint stream, ReadOnlySpan<byte> parameters)
    {
        fixed (byte* first = parameters)
        {
            void* parameter = first;
            return _launchKernel(function, x, y, z, threads, 1, 1, sharedBytes, stream, parameters.IsEmpty ? null : &parameter, null);
        }
    }

    private static string TextOf(byte[] log) => Encoding.UTF8.GetString(log, 0, Math.Max(0, Array.IndexOf(log, (byte)0))).Trim();
}
