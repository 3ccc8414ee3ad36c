namespace FusedAttention.Metal.ObjectiveC;

/// <summary>The classes that this library makes instances of, looked up once. All others come from a device.</summary>
internal static unsafe class Classes
{
    public static readonly nint String = Of("NSString"u8);
    public static readonly nint CompileOptions = Of("MTLCompileOptions"u8);
    public static readonly nint FunctionConstantValues = Of("MTLFunctionConstantValues"u8);

    /// <param name="name">With the zero that ends every UTF-8 literal.</param>
    private static nint Of(ReadOnlySpan<byte> name)
    {
        fixed (byte* text = name)
        {
            nint found = Native.GetClass(text);
            return found != 0 ? found : throw new MetalException($"The system has no class {System.Text.Encoding.UTF8.GetString(name)}.");
        }
    }
}
