using System.Runtime.InteropServices;
using FusedAttention.Cuda.Kernels;
using FusedAttention.Cuda.Launching;
using FusedAttention.Cuda.Ptx;
using FusedAttention.Devices;
using FusedAttention.Problems;

namespace FusedAttention.Cuda.Planning;

/// <summary>A plan on given memory: the parameter that all of its launches have.</summary>
internal static unsafe class CallBinding
{
    /// <summary>Whether the tables of a call travel in its launches' parameter, behind the block: where they have room, and none of them is the device's.</summary>
    /// <param name="problem">The call.</param>
    /// <param name="traits">What its kernels are specialised for.</param>
    /// <param name="layout">Of the tables.</param>
    /// <param name="end">Where the parameter has something else; <see cref="CallBlock.MostParameterBytes"/> if nowhere.</param>
    /// <param name="isLong">Whether there is room behind that too.</param>
    /// <returns>Where they begin in the parameter; 0: they are copied to the device.</returns>
    public static int TablesAt(AttentionProblem problem, in KernelTraits traits, in ScratchLayout layout, int end, bool isLong)
    {
        if (problem.TablesAreElsewhere) return 0;
        int first = CallReader.TablesBehindBlock + FunctionBlock.BytesOf(traits);
        if (layout.TableBytes <= end - first) return first;
        return isLong && layout.TableBytes <= CallBlock.LongParameterBytes - CallBlock.MostParameterBytes ? CallBlock.MostParameterBytes : 0;
    }

    /// <summary>
    /// Writes the parameter, with the tables where they are inline. <see cref="SetCounters"/> is for when the call has its stream, and <see cref="SetItems"/> for each launch.
    /// </summary>
    /// <param name="problem">The call.</param>
    /// <param name="plan">Its plan, which has work.</param>
    /// <param name="memory">Where the tensors lie.</param>
    /// <param name="scratch">Where staged tables and, behind them, partial results lie on the device.</param>
    /// <param name="tablesAt">Where the tables travel in the parameter; 0: in the scratch memory.</param>
    /// <param name="parameters">Receives it: <see cref="CallBlock.MostParameterBytes"/>, or more, and as far as the tables.</param>
    public static void Write(AttentionProblem problem, DevicePlan plan, in CallMemory memory, ulong scratch, int tablesAt, Span<byte> parameters)
    {
        ref readonly ScratchLayout layout = ref plan.Scratch;

        Reciprocal group = Reciprocal.Of(problem.Group);

        // Tables that are inline take nothing of the scratch memory, which begins where they would end.
        ulong partials = scratch - (tablesAt > 0 ? (ulong)layout.TableBytes : 0);
        var block = new CallBlock
        {
            Query = memory.Query.Address(),
            Key = memory.Key.Address(),
            Value = memory.Value.Address(),
            Output = memory.Output.Address(),
            Mask = memory.Mask?.Address() ?? 0,
            Bias = memory.Bias?.Address() ?? 0,
            LogSumExp = memory.LogSumExp?.Address() ?? 0,
            Tables = tablesAt > 0 ? (ulong)tablesAt : scratch,
            PartialOutputs = plan.PartialRows == 0 ? 0 : partials + (ulong)layout.PartialOutputs,
            PartialStatistics = plan.PartialRows == 0 ? 0 : partials + (ulong)layout.PartialStatistics,
            SequencesOffset = checked((int)layout.Sequences),
            BlockTablesOffset = checked((int)layout.BlockTables),
            AlibiSlopesOffset = checked((int)layout.AlibiSlopes),
            SinkLogitsOffset = checked((int)layout.SinkLogits),
            GroupFactor = group.Factor,
            GroupShift = group.Shift,
            Attention = AttentionParameters.Of(problem),
            KeyScale = new() { First = memory.KeyScale?.Address() ?? 0, Strides = ScaleStrides.Of(problem, areValues: false, "CUDA") },
            ValueScale = new() { First = memory.ValueScale?.Address() ?? 0, Strides = ScaleStrides.Of(problem, areValues: true, "CUDA") },
        };
        MemoryMarshal.Write(parameters, block);
        if (tablesAt == 0) return;
        fixed (byte* first = parameters) CallTables.Write(problem, plan, first + tablesAt);
    }

    /// <summary>Says where the counters of arrived splits are.</summary>
    public static void SetCounters(Span<byte> parameters, ulong counters) => MemoryMarshal.AsRef<CallBlock>(parameters).Counters = counters;

    /// <summary>Makes the parameter that of one launch.</summary>
    public static void SetItems(Span<byte> parameters, in LaunchRange range) => MemoryMarshal.AsRef<CallBlock>(parameters).ItemsOffset = checked((int)range.ItemsOffset);
}
