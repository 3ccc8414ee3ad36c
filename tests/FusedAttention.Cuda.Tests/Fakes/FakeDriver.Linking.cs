using System.Runtime.InteropServices;
using System.Text;

namespace FusedAttention.Cuda.Tests.Fakes;

/// <content>The linker: its machine code of a text is the text, behind a word that says so. It lives as long as the linker.</content>
internal sealed unsafe partial class FakeDriver
{
    public const string MachineCode = "machine code of ";

    private readonly Dictionary<nint, nint> _images = [];

    /// <summary>What no module is made of.</summary>
    public string? Refused { get; set; }

    /// <summary>Linkers that were not destroyed.</summary>
    public int Linkers
    {
        get { lock (_gate) return _images.Count; }
    }

    private void WriteLogs(uint count, int* options, void** values)
    {
        for (uint i = 0; i < count; i++)
        {
            if (options[i] is not (3 or 5)) continue;
            byte[] bytes = Encoding.UTF8.GetBytes((options[i] == 3 ? Logs.Info : Logs.Error) + "\0");
            bytes.CopyTo(new Span<byte>(values[i], (int)(nint)values[i + 1]));
        }
    }

    [UnmanagedCallersOnly]
    private static int LinkCreate(uint count, int* options, void** values, nint* linker)
    {
        FakeDriver now = Now;
        int result = now.Ask("cuLinkCreate_v2", isUnsafe: true);
        if (result != 0) return result;
        now.WriteLogs(count, options, values);
        *linker = (nint)Interlocked.Increment(ref now._handles);
        lock (now._gate) now._images.Add(*linker, 0);
        return 0;
    }

    [UnmanagedCallersOnly]
    private static int LinkAddData(nint linker, int kind, void* data, nuint size, byte* name, uint count, int* options, void** values)
    {
        FakeDriver now = Now;
        int result = now.Ask("cuLinkAddData_v2", isUnsafe: true);
        if (result != 0) return result;
        string text = Encoding.UTF8.GetString((byte*)data, (int)size - 1);
        if (kind != 1 || ((byte*)data)[size - 1] != 0 || *name != 0) return 1;
        now.Log($"assemble {text}");
        lock (now._gate) now._images[linker] = Marshal.StringToCoTaskMemUTF8(MachineCode + text);
        return 0;
    }

    [UnmanagedCallersOnly]
    private static int LinkComplete(nint linker, void** image, nuint* size)
    {
        FakeDriver now = Now;
        int result = now.Ask("cuLinkComplete", isUnsafe: true);
        if (result != 0) return result;
        lock (now._gate) *image = (void*)now._images[linker];
        *size = (nuint)MemoryMarshal.CreateReadOnlySpanFromNullTerminated((byte*)*image).Length + 1;
        return 0;
    }

    [UnmanagedCallersOnly]
    private static int LinkDestroy(nint linker)
    {
        FakeDriver now = Now;
        lock (now._gate)
        {
            if (!now._images.Remove(linker, out nint image)) return 1;
            new Span<byte>((void*)image, image == 0 ? 0 : MachineCode.Length).Fill((byte)'?');
            Marshal.FreeCoTaskMem(image);
        }

        return 0;
    }
}
