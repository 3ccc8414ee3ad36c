using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

// All arguments are numbers, pointers and plain structures: nothing is marshalled, so what a declaration says is what the callee gets.
[assembly: DisableRuntimeMarshalling]
[assembly: DefaultDllImportSearchPaths(DllImportSearchPath.SafeDirectories)]

namespace FusedAttention.Metal.ObjectiveC;

/// <summary>
/// Where the system's libraries are, by their full names. They live in the loader's shared cache and not in files, so a test for a file says nothing.
/// </summary>
internal static class Libraries
{
    public const string ObjectiveC = "/usr/lib/libobjc.A.dylib";
    public const string Metal = "/System/Library/Frameworks/Metal.framework/Metal";
    public const string CoreGraphics = "/System/Library/Frameworks/CoreGraphics.framework/CoreGraphics";
}
