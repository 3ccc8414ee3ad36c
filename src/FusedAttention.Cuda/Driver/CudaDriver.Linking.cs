using System.Text;

namespace FusedAttention.Cuda.Driver;

/// <content>Machine code to be kept: what <c>cuModuleLoadDataEx</c> makes of a text it does not give away, the linker does.</content>
internal sealed unsafe partial class CudaDriver
{
    /// <summary>CU_JIT_INPUT_PTX.</summary>
    private const int LinkerTakesText = 1;

    private readonly delegate* unmanaged<uint, int*, void**, nint*, int> _linkCreate;
    private readonly delegate* unmanaged<nint, int, void*, nuint, byte*, uint, int*, void**, int> _linkAddData;
    private readonly delegate* unmanaged<nint, void**, nuint*, int> _linkComplete;
    private readonly delegate* unmanaged<nint, int> _linkDestroy;

    /// <summary>Assembles a text for the current context's device.</summary>
    /// <param name="text">PTX.</param>
    /// <param name="image">Machine code, for <see cref="ModuleLoad(ReadOnlySpan{byte}, out nint, out string, out string)"/>; empty if it failed.</param>
    /// <param name="info">What the assembler had to say.</param>
    /// <param name="errors">Why it failed.</param>
    /// <returns><see cref="Success"/>, or what went wrong.</returns>
    public int Assemble(string text, out byte[] image, out string info, out string errors)
    {
        byte[] ptx = BytesOf(text), infoLog = new byte[LogBytes], errorLog = new byte[LogBytes];
        image = [];
        int result;
        fixed (byte* source = ptx, infoText = infoLog, errorText = errorLog)
        fixed (int* options = LogOptions)
        {
            void** values = stackalloc void*[] { infoText, (void*)LogBytes, errorText, (void*)LogBytes, (void*)1 };
            nint linker;
            result = _linkCreate((uint)LogOptions.Length, options, values, &linker);
            if (result == Success)
            {
                // The image and the logs are the linker's, until it is destroyed.
                byte name = 0;
                void* first = null;
                nuint size = 0;
                result = _linkAddData(linker, LinkerTakesText, source, (nuint)ptx.Length, &name, 0, null, null);
                if (result == Success) result = _linkComplete(linker, &first, &size);
                if (result == Success) image = new ReadOnlySpan<byte>(first, checked((int)size)).ToArray();
                _ = _linkDestroy(linker);
            }
        }

        info = TextOf(infoLog);
        errors = TextOf(errorLog);
        return result;
    }

    private static byte[] BytesOf(string text)
    {
        byte[] bytes = new byte[Encoding.UTF8.GetByteCount(text) + 1];
        Encoding.UTF8.GetBytes(text, bytes);
        return bytes;
    }
}
