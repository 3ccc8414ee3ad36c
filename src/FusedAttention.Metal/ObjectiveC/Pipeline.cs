using FusedAttention.Metal.Launching;

namespace FusedAttention.Metal.ObjectiveC;

/// <summary>A kernel in machine code (MTLComputePipelineState).</summary>
internal sealed class Pipeline : IDisposable
{
    /// <summary>What every kernel here is written for: rows are shared out among 32 lanes.</summary>
    private const nint SimdWidth = 32;

    private readonly NativeObject _state;

    private Pipeline(NativeObject state, KernelResources resources) => (_state, Resources) = (state, resources);

    /// <summary>Known only now.</summary>
    public KernelResources Resources { get; }

    /// <param name="state">The pipeline state; disposed if it does not fit.</param>
    /// <param name="function">For messages.</param>
    /// <param name="maxThreadgroupMemory">Of the device.</param>
    /// <exception cref="MetalException">The machine code needs what the device does not have.</exception>
    public static Pipeline Of(NativeObject state, KernelFunction function, int maxThreadgroupMemory)
    {
        try
        {
            using NativeObject.Lease pipeline = state.Use();
            nint width = Messages.Get(pipeline.Id, Selectors.ThreadExecutionWidth);
            if (width != SimdWidth) throw new MetalException($"Kernel {function.Name} ({function.LibraryName}) runs in simdgroups of {width} threads; it is written for {SimdWidth}.");
            nint memory = Messages.Get(pipeline.Id, Selectors.StaticThreadgroupMemoryLength);
            if (memory > maxThreadgroupMemory)
                throw new MetalException($"Kernel {function.Name} ({function.LibraryName}) needs {memory} bytes of threadgroup memory; the device has {maxThreadgroupMemory}.");
            return new(state, new(Messages.Get(pipeline.Id, Selectors.MaxTotalThreadsPerThreadgroup), memory));
        }
        catch
        {
            state.Dispose();
            throw;
        }
    }

    public NativeObject.Lease Use() => _state.Use();

    public void Dispose() => _state.Dispose();
}
