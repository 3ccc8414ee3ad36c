using System.Runtime.InteropServices;
using System.Text;

namespace FusedAttention.Metal.ObjectiveC;

/// <summary>Strings and errors.</summary>
internal static unsafe class NativeText
{
    /// <summary>An NSString.</summary>
    public static NativeObject Create(string text)
    {
        byte[] utf8 = new byte[Encoding.UTF8.GetByteCount(text) + 1];
        Encoding.UTF8.GetBytes(text, utf8);
        fixed (byte* first = utf8)
        {
            // alloc's object belongs to init from here on, which may return another one.
            nint allocated = NativeObject.NotNil(Messages.Get(Classes.String, Selectors.Alloc), "[NSString alloc]");
            return NativeObject.Own(Messages.Get(allocated, Selectors.InitWithUtf8String, (nint)first), $"a string of {utf8.Length - 1} bytes");
        }
    }

    /// <summary>The text of an NSString; null for nil. Call it inside an <see cref="AutoreleasePool"/>: the bytes belong to one.</summary>
    public static string? Read(nint text) => text == 0 ? null : Marshal.PtrToStringUTF8(Messages.Get(text, Selectors.Utf8String));

    /// <summary>All that an NSError says. Call it inside an <see cref="AutoreleasePool"/>.</summary>
    public static string Describe(nint error)
    {
        if (error == 0) return "the system gave no reason";
        var text = new StringBuilder();
        text.Append(Read(Messages.Get(error, Selectors.LocalizedDescription)) ?? "no description");
        foreach (Selector detail in (ReadOnlySpan<Selector>)[Selectors.LocalizedFailureReason, Selectors.LocalizedRecoverySuggestion])
        {
            if (Read(Messages.Get(error, detail)) is { Length: > 0 } more) text.Append("; ").Append(more);
        }

        return text.Append($" ({Read(Messages.Get(error, Selectors.Domain)) ?? "no domain"} {Messages.Get(error, Selectors.Code)})").ToString();
    }
}
