using System.Text;
using FusedAttention.Cpu.Decode;
using FusedAttention.Cpu.MachineCode.Kernels;
using FusedAttention.Cpu.Planning;
using FusedAttention.Cpu.Threading;
using FusedAttention.Planning;
using FusedAttention.Problems;

namespace FusedAttention.Cpu;

/// <summary>Puts a plan into words.</summary>
internal static class CpuExplanation
{
    public static AttentionExplanation Of(AttentionProblem problem, AttentionOptions options, CpuExecution execution)
    {
        CpuKernels kernels = KernelSelector.Select(execution.InstructionSet, execution.MachineCode);
        kernels.Bind(problem);
        var plan = new CpuPlan();
        plan.Build(problem, kernels, WorkerPool.Shared.Participants(int.MaxValue, execution.MaxDegreeOfParallelism));
        return new AttentionExplanation
        {
            Backend = "cpu",
            Kernel = plan.KernelName,
            InstructionSet = kernels.InstructionSet,
            MachineCode = UseOf(problem, plan, kernels, execution).Text,
            Listing = UseOf(problem, plan, kernels, execution).Listing,
            Threads = plan.Threads,
            WorkItems = plan.Count,
            FloatingPointOperations = 2 * plan.Cost,
            KeyValueBytes = problem.KeyValueBytes(),
            ScratchBytes = (plan.Threads * plan.ScratchBytes) + (plan.PartialFloats * sizeof(float)),
            Details = Details(problem, plan, kernels, options, execution),
        };
    }

    private static string Details(AttentionProblem problem, CpuPlan plan, CpuKernels kernels, AttentionOptions options, CpuExecution execution)
    {
        var text = new StringBuilder();
        text.Append($"shape            {Sequences(problem.SequenceCount)}, {problem.QueryHeads} query heads over {problem.KeyValueHeads} key/value heads, {Dims(problem)}, ")
            .Append($"queries of {problem.QueryType}, keys and values of {problem.KeyValueType}{(problem.BlockSize > 0 ? $", blocks of {problem.BlockSize}" : "")}\n");
        text.Append($"mask             {options.Mask}, {options.Alignment}\n");
        text.Append(execution.InstructionSet == CpuInstructionSet.Auto
            ? $"                 {kernels.InstructionSet} is what this process runs by default\n"
            : $"                 {kernels.InstructionSet} was asked for\n");
        if (AheadOfTime.Warning is { } warning) text.Append($"                 {warning}\n");
        if (plan.PrefillSequences > 0)
        {
            string reason = problem.RowInvariant ? "all, because RowInvariant asks for one arithmetic" : $"more than 1 query and more than {DecodeTiles.MaxRows} rows a key/value head";
            text.Append($"prefill          {Sequences(plan.PrefillSequences)} ({reason})\n");
            text.Append($"                 tiles of {PrefillTiles.Keys} keys, {(kernels.TilesOf(problem) is null ? $"register tile {kernels.PrefillRows(problem).Tile} x {2 * kernels.VectorWidth}, strips of up to {PrefillTiles.StripRows} rows" : $"strips of {TileKernels.Rows} rows")}\n");
        }

        if (plan.DecodeSequences > 0)
        {
            text.Append($"decode           {Sequences(plan.DecodeSequences)} (1 query, or at most {DecodeTiles.MaxRows} rows a key/value head)\n");
            text.Append($"                 tiles of {DecodeTiles.Keys} keys, {Sequences(SplitSequences(plan))} split into chunks of keys\n");
        }

        if (plan.WideSequences > 0)
        {
            text.Append($"double precision {Sequences(plan.WideSequences)} (scale, soft cap or a slope is beyond what 32-bit sums can be trusted with: slower by an order of magnitude)\n");
        }

        FunctionListing.AppendTo(text, options);
        if (UseOf(problem, plan, kernels, execution).Text is { } machineCode) text.Append($"machine code     {machineCode}\n");
        string limit = execution.MaxDegreeOfParallelism == -1 ? "" : $", at most {execution.MaxDegreeOfParallelism} by MaxDegreeOfParallelism";
        text.Append($"processors       {WorkerPool.Shared.Participants(int.MaxValue, -1)}{limit}");
        return text.ToString();
    }

    /// <summary>What machine code the call uses, or why none, and its listing; null where there is none to speak of.</summary>
    private static (string? Text, Func<string>? Listing) UseOf(AttentionProblem problem, CpuPlan plan, CpuKernels kernels, CpuExecution execution)
    {
        if (kernels.InstructionSet is not (CpuInstructionSet.Avx2 or CpuInstructionSet.Avx512)) return default;
        if (problem is { QueryType: AttentionElementType.BFloat16, KeyValueType: AttentionElementType.BFloat16 } && plan.PrefillSequences > 0)
        {
            if (kernels.Tiles is not { } tiles) return ($"none: {MachineCodeChoice.Of(kernels.InstructionSet, execution.MachineCode).TilesRefusal}", null);
            return kernels.TilesOf(problem) is null ? ("none: tiles take dimensions from 16 to 256", null) : (tiles.Reason, () => TileKernels.Listing(problem.KeyDim, problem.ValueDim, PrefillTiles.Keys));
        }

        if (IntegerProducts.Takes(problem, kernels.VectorWidth)) return UseOfIntegers(problem, kernels, execution);
        if (problem.KeyValueType != AttentionElementType.Float16 || plan.PrefillSequences + plan.DecodeSequences == 0) return default;
        string reason = MachineCodeChoice.Of(kernels.InstructionSet, execution.MachineCode).Reason;
        if (kernels.Narrow is not { } narrow) return ($"none: {reason}", null);
        (int keyDim, int valueDim) = (problem.KeyDim, problem.ValueDim);
        bool widens = plan.PrefillSequences > 0 && (narrow.Widens(keyDim) || narrow.Widens(valueDim));
        bool takes = plan.DecodeSequences > 0 && narrow.Decodes(keyDim) && narrow.Decodes(valueDim);
        bool decodes = false;
        foreach (ref readonly SequenceProblem sequence in problem.Sequences) decodes |= takes && sequence.QueryLength * problem.Group > 1 && CpuPlan.IsDecode(problem, sequence);
        if (!widens && !decodes) return (takes ? "none: heads of one row are bound by memory" : "none: the dimensions are not whole vectors", null);
        return (reason, () => string.Join('\n', ((bool[])[.. decodes ? [true] : Array.Empty<bool>(), .. widens ? [false] : Array.Empty<bool>()])
            .Select(kind => narrow.Listing(kind, keyDim, valueDim, DecodeTiles.ScoreStride, PrefillTiles.Keys))));
    }

    private static (string? Text, Func<string>? Listing) UseOfIntegers(AttentionProblem problem, CpuKernels kernels, CpuExecution execution)
    {
        bool decodes = false;
        foreach (ref readonly SequenceProblem sequence in problem.Sequences) decodes |= sequence.QueryLength * problem.Group > 1 && CpuPlan.IsDecode(problem, sequence);
        if (!decodes) return default;
        if (kernels.Narrow is not { } narrow) return ($"none: {MachineCodeChoice.Of(kernels.InstructionSet, execution.MachineCode).Reason}", null);
        return ($"8-bit integers by {narrow.IntegerProduct}, queries and weights rounded to 16 bits; by floats where the log-sum-exp is asked for ({narrow.HostState})", () => narrow.ListingOfIntegers(problem.KeyDim, problem.ValueDim, DecodeTiles.ScoreStride));
    }

    private static string Sequences(int count) => count == 1 ? "1 sequence" : $"{count} sequences";

    private static string Dims(AttentionProblem problem) => problem.KeyDim == problem.ValueDim ? $"dim {problem.KeyDim}" : $"keys of dim {problem.KeyDim}, values of {problem.ValueDim}";

    private static int SplitSequences(CpuPlan plan)
    {
        int split = 0;
        int last = -1;
        foreach (ref readonly WorkItem item in plan.Items)
        {
            if (item.Kind != WorkKind.Decode || item.ChunkCount == 1 || item.Chunk != 0 || item.Sequence == last) continue;
            last = item.Sequence;
            split++;
        }

        return split;
    }
}
