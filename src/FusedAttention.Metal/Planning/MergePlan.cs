using System.Collections.Concurrent;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using FusedAttention.Devices;
using FusedAttention.Metal.Launching;
using FusedAttention.Problems;

namespace FusedAttention.Metal.Planning;

/// <summary>Where the tensors of a merge lie; sinks are floats in device memory, one a head.</summary>
internal readonly record struct MergeMemory(MemoryPlace Partials, MemoryPlace PartialLogSumExps, MemoryPlace Output, MemoryPlace? LogSumExp = null, MemoryPlace? SinkLogits = null);

/// <summary>Combining parts of a context by their log-sum-exps: <c>merge.metal</c>.</summary>
internal static class MergePlan
{
    /// <summary>The slot of the parameter block.</summary>
    public const int ParameterIndex = 5;

    private const int Buffers = 5;
    private const int Simdgroups = 4;

    private static readonly ConcurrentDictionary<(AttentionElementType Partial, AttentionElementType Output, bool HasSinks, bool HasLogSumExp), KernelFunction> Functions = new();

    /// <summary>The kernel; made once in a process.</summary>
    public static KernelFunction Function(AttentionElementType partialType, AttentionElementType outputType, bool hasSinks, bool hasLogSumExp) => Functions.GetOrAdd(
        (partialType, outputType, hasSinks, hasLogSumExp),
        static key => new(
            KernelFamily.Merge,
            "merge",
            [
                new SourceDefinition("PARTIAL_T", KernelLibrary.NameOf(key.Partial)),
                new SourceDefinition("OUTPUT_T", KernelLibrary.NameOf(key.Output)),
                KernelLibrary.Define("SIMDGROUPS", Simdgroups),
            ],
            [FunctionConstants.Flag(0, "has_sinks", key.HasSinks), FunctionConstants.Flag(1, "has_log_sum_exp", key.HasLogSumExp)]));

    /// <summary>An empty list for <see cref="Bind"/>.</summary>
    public static LaunchList NewLaunches() => new(ParameterIndex, Unsafe.SizeOf<MergeParameters>());

    /// <summary>The launch; none when there is no row.</summary>
    /// <param name="shape">Sizes and strides, checked by <see cref="MergeShape"/>.</param>
    /// <param name="partialType">Element type of the parts.</param>
    /// <param name="outputType">Element type of the result.</param>
    /// <param name="memory">Where the tensors lie.</param>
    /// <param name="launches">Receives it.</param>
    /// <exception cref="NotSupportedException">There are more rows than a grid has.</exception>
    public static void Bind(in MergeShape shape, AttentionElementType partialType, AttentionElementType outputType, in MergeMemory memory, LaunchList launches)
    {
        MergeParameters parameters = MergeParameters.Of(shape);
        if (parameters.Rows == 0) return;
        long threadgroups = (parameters.Rows + Simdgroups - 1) / Simdgroups;
        if (threadgroups > int.MaxValue) throw new NotSupportedException($"A merge of {parameters.Rows} rows does not fit a grid; it takes up to {(long)int.MaxValue * Simdgroups}.");

        // An absent tensor's slot gets another one: Metal wants something there, and it is not touched.
        MemoryPlace absent = memory.PartialLogSumExps;
        MemoryPlace logSumExp = memory.LogSumExp ?? absent;
        MemoryPlace sinks = memory.SinkLogits ?? absent;
        MemoryMarshal.Write(launches.Parameters, parameters);
        Span<BufferBinding> buffers = launches.Add(
            Function(partialType, outputType, memory.SinkLogits is not null, memory.LogSumExp is not null), Buffers,
            new((uint)threadgroups, 1, 1), new(Simdgroups * 32, 1, 1),
            TileTable.CostOfElement * parameters.Rows * parameters.Parts * parameters.Dim, beginsCommandBuffer: true);
        buffers[0] = new(0, memory.Partials.Memory, memory.Partials.Offset, IsWritten: false);
        buffers[1] = new(1, memory.PartialLogSumExps.Memory, memory.PartialLogSumExps.Offset, IsWritten: false);
        buffers[2] = new(2, memory.Output.Memory, memory.Output.Offset, IsWritten: true);
        buffers[3] = new(3, logSumExp.Memory, logSumExp.Offset, IsWritten: memory.LogSumExp is not null);
        buffers[4] = new(4, sinks.Memory, sinks.Offset, IsWritten: false);
    }
}
