using System.Runtime.InteropServices;

namespace FusedAttention.Metal.ObjectiveC;

/// <summary>
/// The functions of the Objective-C runtime and of Metal that are not messages. An identifier of an object is an <c>nint</c>, 0 is nil.
/// </summary>
internal static unsafe partial class Native
{
    [LibraryImport(Libraries.ObjectiveC, EntryPoint = "objc_getClass")]
    public static partial nint GetClass(byte* name);

    [LibraryImport(Libraries.ObjectiveC, EntryPoint = "sel_registerName")]
    public static partial nint RegisterSelector(byte* name);

    [LibraryImport(Libraries.ObjectiveC, EntryPoint = "objc_retain")]
    public static partial nint Retain(nint instance);

    [LibraryImport(Libraries.ObjectiveC, EntryPoint = "objc_release")]
    public static partial void Release(nint instance);

    [LibraryImport(Libraries.ObjectiveC, EntryPoint = "objc_autoreleasePoolPush")]
    public static partial nint PushAutoreleasePool();

    [LibraryImport(Libraries.ObjectiveC, EntryPoint = "objc_autoreleasePoolPop")]
    public static partial void PopAutoreleasePool(nint pool);

    /// <summary>The preferred device, owned by the caller; nil where there is none.</summary>
    [LibraryImport(Libraries.Metal, EntryPoint = "MTLCreateSystemDefaultDevice")]
    public static partial nint CreateSystemDefaultDevice();

    /// <summary>An array of all devices, owned by the caller.</summary>
    [LibraryImport(Libraries.Metal, EntryPoint = "MTLCopyAllDevices")]
    public static partial nint CopyAllDevices();
}
