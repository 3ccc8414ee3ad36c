using System.Text;
using FusedAttention.Cpu.Planning;
using FusedAttention.Cpu.Threading;
using FusedAttention.Problems;

namespace FusedAttention.Cpu;

/// <summary>Puts a plan into words.</summary>
internal static class CpuExplanation
{
    public static AttentionExplanation Of(AttentionProblem problem, AttentionOptions options, CpuExecution execution)
    {
        CpuKernels kernels = KernelSelector.Select(execution.InstructionSet);
        var plan = new CpuPlan();
        plan.Build(problem, kernels, WorkerPool.Shared.Participants(int.MaxValue, execution.MaxDegreeOfParallelism));
        return new AttentionExplanation
        {
            Backend = "cpu",
            Kernel = plan.KernelName,
            InstructionSet = kernels.InstructionSet,
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
        if (plan.PrefillSequences > 0)
        {
            string reason = problem.RowInvariant ? "all, because RowInvariant asks for one arithmetic" : $"more than 1 query and more than {DecodeTiles.MaxRows} rows a key/value head";
            text.Append($"prefill          {Sequences(plan.PrefillSequences)} ({reason})\n");
            text.Append($"                 tiles of {PrefillTiles.Keys} keys, register tile {kernels.TileRows} x {2 * kernels.VectorWidth}, strips of up to {PrefillTiles.StripRows} rows\n");
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

        string limit = execution.MaxDegreeOfParallelism == -1 ? "" : $", at most {execution.MaxDegreeOfParallelism} by MaxDegreeOfParallelism";
        text.Append($"processors       {WorkerPool.Shared.Participants(int.MaxValue, -1)}{limit}");
        return text.ToString();
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
