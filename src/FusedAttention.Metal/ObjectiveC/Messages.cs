using System.Runtime.InteropServices;

namespace FusedAttention.Metal.ObjectiveC;

/// <summary>MTLSize: by value, 24 bytes.</summary>
/// <param name="Width">Along x.</param>
/// <param name="Height">Along y.</param>
/// <param name="Depth">Along z.</param>
[StructLayout(LayoutKind.Sequential)]
internal readonly record struct MetalSize(nuint Width, nuint Height, nuint Depth);

/// <summary>
/// <c>objc_msgSend</c>, declared once for each signature in use and never with variable arguments: Apple's arm64 passes those on the stack, and methods look for
/// theirs in registers. A message to nil returns 0; who needs an object says so by <see cref="NativeObject.NotNil"/>.
/// </summary>
/// <remarks>
/// No method in use returns a structure beyond 16 bytes, which on x64 would need another entry point. BOOL is one byte of which only "zero or not" counts; NSUInteger and enumerations are as wide as a
/// pointer.
/// </remarks>
internal static unsafe partial class Messages
{
    private const string Send = "objc_msgSend";

    /// <summary>commit, endEncoding, waitUntilCompleted, requestResidency, endResidency.</summary>
    [LibraryImport(Libraries.ObjectiveC, EntryPoint = Send)]
    public static partial void Call(nint receiver, Selector selector);

    /// <summary>setComputePipelineState:, setLanguageVersion:, setMathMode:, addResidencySet:, addAllocation:, removeAllocation:.</summary>
    [LibraryImport(Libraries.ObjectiveC, EntryPoint = Send)]
    public static partial void Call(nint receiver, Selector selector, nint argument);

    /// <summary>setFastMathEnabled:.</summary>
    [LibraryImport(Libraries.ObjectiveC, EntryPoint = Send)]
    public static partial void CallWithBool(nint receiver, Selector selector, byte argument);

    /// <summary>setBytes:length:atIndex:, setBuffer:offset:atIndex:, setConstantValue:type:atIndex:.</summary>
    [LibraryImport(Libraries.ObjectiveC, EntryPoint = Send)]
    public static partial void Call(nint receiver, Selector selector, nint first, nuint second, nuint third);

    /// <summary>setBufferOffset:atIndex:.</summary>
    [LibraryImport(Libraries.ObjectiveC, EntryPoint = Send)]
    public static partial void Call(nint receiver, Selector selector, nuint first, nuint second);

    /// <summary>dispatchThreadgroups:threadsPerThreadgroup:.</summary>
    [LibraryImport(Libraries.ObjectiveC, EntryPoint = Send)]
    public static partial void Call(nint receiver, Selector selector, MetalSize threadgroups, MetalSize threads);

    /// <summary>Methods without arguments that return an object, a pointer or a number.</summary>
    [LibraryImport(Libraries.ObjectiveC, EntryPoint = Send)]
    public static partial nint Get(nint receiver, Selector selector);

    /// <summary>GPUStartTime, GPUEndTime: CFTimeInterval, a double, which this entry point returns on x64 too.</summary>
    [LibraryImport(Libraries.ObjectiveC, EntryPoint = Send)]
    public static partial double GetSeconds(nint receiver, Selector selector);

    /// <summary>objectAtIndex:, initWithUTF8String:.</summary>
    [LibraryImport(Libraries.ObjectiveC, EntryPoint = Send)]
    public static partial nint Get(nint receiver, Selector selector, nint argument);

    /// <summary>respondsToSelector:.</summary>
    [LibraryImport(Libraries.ObjectiveC, EntryPoint = Send)]
    public static partial byte Ask(nint receiver, Selector selector, Selector argument);

    /// <summary>supportsFamily:.</summary>
    [LibraryImport(Libraries.ObjectiveC, EntryPoint = Send)]
    public static partial byte Ask(nint receiver, Selector selector, nint argument);

    /// <summary>hasUnifiedMemory.</summary>
    [LibraryImport(Libraries.ObjectiveC, EntryPoint = Send)]
    public static partial byte Ask(nint receiver, Selector selector);

    /// <summary>newBufferWithLength:options:.</summary>
    [LibraryImport(Libraries.ObjectiveC, EntryPoint = Send)]
    public static partial nint Get(nint receiver, Selector selector, nuint first, nuint second);

    /// <summary>newBufferWithBytesNoCopy:length:options:deallocator:.</summary>
    [LibraryImport(Libraries.ObjectiveC, EntryPoint = Send)]
    public static partial nint Get(nint receiver, Selector selector, nint first, nuint second, nuint third, nint fourth);

    /// <summary>newComputePipelineStateWithFunction:error:, newResidencySetWithDescriptor:error:.</summary>
    [LibraryImport(Libraries.ObjectiveC, EntryPoint = Send)]
    public static partial nint Get(nint receiver, Selector selector, nint argument, nint* error);

    /// <summary>newLibraryWithSource:options:error:, newFunctionWithName:constantValues:error:.</summary>
    [LibraryImport(Libraries.ObjectiveC, EntryPoint = Send)]
    public static partial nint Get(nint receiver, Selector selector, nint first, nint second, nint* error);
}
