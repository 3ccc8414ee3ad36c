namespace FusedAttention.Metal.ObjectiveC;

/// <summary>The name of a message as the runtime knows it (SEL). The same for the life of the process.</summary>
/// <param name="Value">A pointer, or 0.</param>
internal readonly unsafe record struct Selector(nint Value)
{
    /// <param name="name">With the zero that ends every UTF-8 literal.</param>
    public static Selector Of(ReadOnlySpan<byte> name)
    {
        fixed (byte* text = name) return new(Native.RegisterSelector(text));
    }
}

/// <summary>Every message that this library sends, looked up once.</summary>
internal static class Selectors
{
    // Objects and strings.
    public static readonly Selector Alloc = Selector.Of("alloc"u8);
    public static readonly Selector New = Selector.Of("new"u8);
    public static readonly Selector RespondsToSelector = Selector.Of("respondsToSelector:"u8);
    public static readonly Selector InitWithUtf8String = Selector.Of("initWithUTF8String:"u8);
    public static readonly Selector Utf8String = Selector.Of("UTF8String"u8);
    public static readonly Selector Count = Selector.Of("count"u8);
    public static readonly Selector ObjectAtIndex = Selector.Of("objectAtIndex:"u8);

    // Errors.
    public static readonly Selector Domain = Selector.Of("domain"u8);
    public static readonly Selector Code = Selector.Of("code"u8);
    public static readonly Selector LocalizedDescription = Selector.Of("localizedDescription"u8);
    public static readonly Selector LocalizedFailureReason = Selector.Of("localizedFailureReason"u8);
    public static readonly Selector LocalizedRecoverySuggestion = Selector.Of("localizedRecoverySuggestion"u8);

    // Devices.
    public static readonly Selector Name = Selector.Of("name"u8);
    public static readonly Selector RegistryId = Selector.Of("registryID"u8);
    public static readonly Selector SupportsFamily = Selector.Of("supportsFamily:"u8);
    public static readonly Selector HasUnifiedMemory = Selector.Of("hasUnifiedMemory"u8);
    public static readonly Selector MaxThreadgroupMemoryLength = Selector.Of("maxThreadgroupMemoryLength"u8);
    public static readonly Selector MaxBufferLength = Selector.Of("maxBufferLength"u8);
    public static readonly Selector NewCommandQueue = Selector.Of("newCommandQueue"u8);

    public static readonly Selector RecommendedMaxWorkingSetSize = Selector.Of("recommendedMaxWorkingSetSize"u8);

    // Residency.
    public static readonly Selector NewResidencySet = Selector.Of("newResidencySetWithDescriptor:error:"u8);
    public static readonly Selector AddResidencySet = Selector.Of("addResidencySet:"u8);
    public static readonly Selector AddAllocation = Selector.Of("addAllocation:"u8);
    public static readonly Selector RemoveAllocation = Selector.Of("removeAllocation:"u8);
    public static readonly Selector RequestResidency = Selector.Of("requestResidency"u8);
    public static readonly Selector EndResidency = Selector.Of("endResidency"u8);

    // Memory.
    public static readonly Selector NewBufferWithLength = Selector.Of("newBufferWithLength:options:"u8);
    public static readonly Selector NewBufferWithBytesNoCopy = Selector.Of("newBufferWithBytesNoCopy:length:options:deallocator:"u8);
    public static readonly Selector Contents = Selector.Of("contents"u8);

    // Kernels.
    public static readonly Selector SetLanguageVersion = Selector.Of("setLanguageVersion:"u8);
    public static readonly Selector SetMathMode = Selector.Of("setMathMode:"u8);
    public static readonly Selector SetFastMathEnabled = Selector.Of("setFastMathEnabled:"u8);
    public static readonly Selector NewLibraryWithSource = Selector.Of("newLibraryWithSource:options:error:"u8);
    public static readonly Selector SetConstantValue = Selector.Of("setConstantValue:type:atIndex:"u8);
    public static readonly Selector NewFunctionWithName = Selector.Of("newFunctionWithName:constantValues:error:"u8);
    public static readonly Selector NewComputePipelineState = Selector.Of("newComputePipelineStateWithFunction:error:"u8);
    public static readonly Selector ThreadExecutionWidth = Selector.Of("threadExecutionWidth"u8);
    public static readonly Selector MaxTotalThreadsPerThreadgroup = Selector.Of("maxTotalThreadsPerThreadgroup"u8);
    public static readonly Selector StaticThreadgroupMemoryLength = Selector.Of("staticThreadgroupMemoryLength"u8);

    // Commands.
    public static readonly Selector CommandBuffer = Selector.Of("commandBuffer"u8);
    public static readonly Selector ComputeCommandEncoder = Selector.Of("computeCommandEncoder"u8);
    public static readonly Selector SetComputePipelineState = Selector.Of("setComputePipelineState:"u8);
    public static readonly Selector SetBuffer = Selector.Of("setBuffer:offset:atIndex:"u8);
    public static readonly Selector SetBufferOffset = Selector.Of("setBufferOffset:atIndex:"u8);
    public static readonly Selector SetBytes = Selector.Of("setBytes:length:atIndex:"u8);
    public static readonly Selector DispatchThreadgroups = Selector.Of("dispatchThreadgroups:threadsPerThreadgroup:"u8);
    public static readonly Selector EndEncoding = Selector.Of("endEncoding"u8);
    public static readonly Selector Commit = Selector.Of("commit"u8);
    public static readonly Selector WaitUntilCompleted = Selector.Of("waitUntilCompleted"u8);
    public static readonly Selector Status = Selector.Of("status"u8);
    public static readonly Selector Error = Selector.Of("error"u8);
    public static readonly Selector GpuStartTime = Selector.Of("GPUStartTime"u8);
    public static readonly Selector GpuEndTime = Selector.Of("GPUEndTime"u8);
}
