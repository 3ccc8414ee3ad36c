using System.Collections.Concurrent;
using System.Runtime.InteropServices;
using FusedAttention.Cuda.Kernels;
using FusedAttention.Cuda.Launching;
using FusedAttention.Devices;
using FusedAttention.Problems;

namespace FusedAttention.Cuda.Planning;

/// <summary>Where the tensors of a merge lie.</summary>
internal readonly record struct MergeMemory(MemoryPlace Partials, MemoryPlace PartialLogSumExps, MemoryPlace Output, MemoryPlace? LogSumExp = null);

/// <summary>Combining parts of a context by their log-sum-exps.</summary>
internal static class MergePlan
{
    private const int WarpSize = 32;

    private static readonly ConcurrentDictionary<(AttentionElementType Partial, AttentionElementType Output), KernelFunction> Functions = new();

    /// <summary>Heads whose sinks travel in the launch's parameter.</summary>
    public static int MostInlineSinks => (CallBlock.MostParameterBytes - MergeBlock.SinksBehindBlock) / sizeof(float);

    /// <summary>The kernel; made once in a process.</summary>
    public static KernelFunction Function(AttentionElementType partialType, AttentionElementType outputType) => Functions.GetOrAdd((partialType, outputType), static key => Make(key.Partial, key.Output));

    /// <summary>Blocks of threads: a warp a row; 0 when there is no row.</summary>
    /// <param name="shape">Sizes and strides, checked by <see cref="MergeShape"/>.</param>
    /// <param name="function">The kernel.</param>
    /// <exception cref="NotSupportedException">There are more rows than a grid has.</exception>
    public static uint BlocksOf(in MergeShape shape, KernelFunction function)
    {
        long rows = checked(shape.Batch * shape.Queries * shape.Heads), warps = function.Threads / WarpSize, blocks = (rows + warps - 1) / warps;
        return blocks <= int.MaxValue ? (uint)blocks : throw new NotSupportedException($"A merge of {rows} rows does not fit a grid; it takes up to {int.MaxValue * warps}.");
    }

    /// <summary>The launch.</summary>
    /// <param name="shape">Sizes and strides, checked by <see cref="MergeShape"/>.</param>
    /// <param name="function">The kernel.</param>
    /// <param name="memory">Where the tensors lie.</param>
    /// <param name="sinkLogits">One a head, or none.</param>
    /// <param name="sinkPlace">Where they are on the device; null: they go into the parameter.</param>
    /// <param name="parameters">Receives the parameter: <see cref="CallBlock.MostParameterBytes"/>; in use as long as the launch.</param>
    public static KernelLaunch Bind(in MergeShape shape, KernelFunction function, in MergeMemory memory, ReadOnlySpan<float> sinkLogits, MemoryPlace? sinkPlace, Span<byte> parameters)
    {
        MemoryMarshal.Write(parameters, new MergeBlock
        {
            Partials = memory.Partials.Address(),
            PartialLogSumExps = memory.PartialLogSumExps.Address(),
            Output = memory.Output.Address(),
            LogSumExp = memory.LogSumExp?.Address() ?? 0,
            SinkLogits = sinkPlace?.Address() ?? 0,
            HasSinks = sinkLogits.IsEmpty ? 0 : 1,
            Merge = MergeParameters.Of(shape),
        });
        if (sinkPlace is null) MemoryMarshal.AsBytes(sinkLogits).CopyTo(parameters[MergeBlock.SinksBehindBlock..]);
        return new(function, BlocksOf(shape, function), 1, 1, parameters);
    }

    private static KernelFunction Make(AttentionElementType partialType, AttentionElementType outputType) => new(
        "merge", $"merge {partialType} to {outputType}", MergeKernel.Threads, sharedBytes: 0,
        () => MergeKernel.Write(CallReader.FormatOf(partialType), CallReader.FormatOf(outputType)).ToString());
}
