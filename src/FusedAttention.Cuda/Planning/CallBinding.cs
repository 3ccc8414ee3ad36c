using System.Runtime.InteropServices;
using FusedAttention.Cuda.Kernels;
using FusedAttention.Cuda.Launching;
using FusedAttention.Devices;
using FusedAttention.Problems;

namespace FusedAttention.Cuda.Planning;

/// <summary>A plan on given memory: the parameter that all of its launches have.</summary>
internal static unsafe class CallBinding
{
    /// <summary>Bytes of tables that have room behind the block.</summary>
    public static int InlineTableBytes => CallBlock.MostParameterBytes - CallReader.TablesBehindBlock;

    /// <summary>Whether the tables of a call travel in its launches' parameter.</summary>
    public static bool HasInlineTables(in ScratchLayout layout) => layout.TableBytes <= InlineTableBytes;

    /// <summary>Writes the parameter, with the tables where they are inline. <see cref="CallBlock.ItemsOffset"/> is each launch's own.</summary>
    /// <param name="problem">The call.</param>
    /// <param name="plan">Its plan, which has work.</param>
    /// <param name="memory">Where the tensors lie.</param>
    /// <param name="places">Where the rest lies.</param>
    /// <param name="blocks">Blocks of a paged cache.</param>
    /// <param name="parameters">Receives it: <see cref="CallBlock.MostParameterBytes"/>.</param>
    public static void Write(AttentionProblem problem, DevicePlan plan, in CallMemory memory, in CallPlaces places, int blocks, Span<byte> parameters)
    {
        ref readonly ScratchLayout layout = ref plan.Scratch;
        bool isInline = HasInlineTables(layout);

        // Tables that are inline take nothing of the scratch memory, which begins where they would end.
        ulong partials = places.Scratch - (isInline ? (ulong)layout.TableBytes : 0);
        var block = new CallBlock
        {
            Query = memory.Query.Address(),
            Key = memory.Key.Address(),
            Value = memory.Value.Address(),
            Output = memory.Output.Address(),
            Mask = memory.Mask?.Address() ?? 0,
            Bias = memory.Bias?.Address() ?? 0,
            LogSumExp = memory.LogSumExp?.Address() ?? 0,
            Tables = isInline ? 0 : places.Scratch,
            PartialOutputs = plan.PartialRows == 0 ? 0 : partials + (ulong)layout.PartialOutputs,
            PartialStatistics = plan.PartialRows == 0 ? 0 : partials + (ulong)layout.PartialStatistics,
            Counters = places.Counters,
            Status = places.Status,
            SequencesOffset = checked((int)layout.Sequences),
            BlockTablesOffset = checked((int)layout.BlockTables),
            AlibiSlopesOffset = checked((int)layout.AlibiSlopes),
            SinkLogitsOffset = checked((int)layout.SinkLogits),
            BlockCount = blocks,
            Attention = AttentionParameters.Of(problem),
        };
        MemoryMarshal.Write(parameters, block);
        if (!isInline) return;
        fixed (byte* first = parameters) CallTables.Write(problem, plan, first + CallReader.TablesBehindBlock);
    }

    /// <summary>Makes the parameter that of one launch.</summary>
    public static void SetItems(Span<byte> parameters, in LaunchRange range) => MemoryMarshal.AsRef<CallBlock>(parameters).ItemsOffset = checked((int)range.ItemsOffset);
}
