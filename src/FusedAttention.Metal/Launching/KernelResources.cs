namespace FusedAttention.Metal.Launching;

/// <summary>What a compiled kernel takes of a device.</summary>
/// <param name="MaxThreads">Threads of a threadgroup that its registers allow: the hardware's 1,024, or less. All that a system tells about registers.</param>
/// <param name="ThreadgroupBytes">Threadgroup memory that it declares.</param>
internal readonly record struct KernelResources(long MaxThreads, long ThreadgroupBytes);
