using System.Runtime.InteropServices;
using FusedAttention.Devices;
using FusedAttention.Metal.Launching;
using FusedAttention.Problems;

namespace FusedAttention.Metal.Planning;

/// <summary>Where the tensors of a merge lie; sinks are floats in device memory, one a head.</summary>
internal sealed record MergeMemory(MemoryPlace Partials, MemoryPlace PartialLogSumExps, MemoryPlace Output, MemoryPlace? LogSumExp = null, MemoryPlace? SinkLogits = null);

/// <summary>Combining parts of a context by their log-sum-exps: <c>merge.metal</c>.</summary>
internal static class MergePlan
{
    private const int Simdgroups = 4;

    /// <summary>The kernel, for compiling ahead.</summary>
    public static KernelFunction Function(AttentionElementType partialType, AttentionElementType outputType, bool hasSinks, bool hasLogSumExp) => new(
        KernelFamily.Merge,
        "merge",
        [
            new SourceDefinition("PARTIAL_T", KernelLibrary.NameOf(partialType)),
            new SourceDefinition("OUTPUT_T", KernelLibrary.NameOf(outputType)),
            KernelLibrary.Define("SIMDGROUPS", Simdgroups),
        ],
        [FunctionConstants.Flag(0, "has_sinks", hasSinks), FunctionConstants.Flag(1, "has_log_sum_exp", hasLogSumExp)]);

    /// <summary>The launch; null when there is no row.</summary>
    /// <param name="shape">Sizes and strides, checked by <see cref="MergeShape"/>.</param>
    /// <param name="partialType">Element type of the parts.</param>
    /// <param name="outputType">Element type of the result.</param>
    /// <param name="memory">Where the tensors lie.</param>
    /// <exception cref="NotSupportedException">There are more rows than a grid has.</exception>
    public static KernelLaunch? Bind(in MergeShape shape, AttentionElementType partialType, AttentionElementType outputType, MergeMemory memory)
    {
        MergeParameters parameters = MergeParameters.Of(shape);
        if (parameters.Rows == 0) return null;
        long threadgroups = (parameters.Rows + Simdgroups - 1) / Simdgroups;
        if (threadgroups > int.MaxValue) throw new NotSupportedException($"A merge of {parameters.Rows} rows does not fit a grid; it takes up to {(long)int.MaxValue * Simdgroups}.");

        // An absent tensor's slot gets another one: Metal wants something there, and it is not touched.
        MemoryPlace absent = memory.PartialLogSumExps;
        MemoryPlace logSumExp = memory.LogSumExp ?? absent;
        MemoryPlace sinks = memory.SinkLogits ?? absent;
        return new KernelLaunch(
            Function(partialType, outputType, memory.SinkLogits is not null, memory.LogSumExp is not null),
            [
                new BufferBinding(0, memory.Partials.Memory, memory.Partials.Offset, IsWritten: false),
                new BufferBinding(1, memory.PartialLogSumExps.Memory, memory.PartialLogSumExps.Offset, IsWritten: false),
                new BufferBinding(2, memory.Output.Memory, memory.Output.Offset, IsWritten: true),
                new BufferBinding(3, logSumExp.Memory, logSumExp.Offset, IsWritten: memory.LogSumExp is not null),
                new BufferBinding(4, sinks.Memory, sinks.Offset, IsWritten: false),
            ],
            5,
            [.. MemoryMarshal.AsBytes(new ReadOnlySpan<MergeParameters>(in parameters))],
            new GridSize((uint)threadgroups, 1, 1),
            new GridSize(Simdgroups * 32, 1, 1));
    }
}
