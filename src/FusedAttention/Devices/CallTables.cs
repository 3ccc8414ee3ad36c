using FusedAttention.Problems;

namespace FusedAttention.Devices;

/// <summary>Writes the tables of a planned call, as its <see cref="ScratchLayout"/> places them.</summary>
internal static unsafe class CallTables
{
    /// <param name="problem">The call.</param>
    /// <param name="plan">Its plan, which has work.</param>
    /// <param name="destination">Where the call's transient memory begins for the processor: <see cref="ScratchLayout.TableBytes"/> bytes are written at most.</param>
    public static void Write(AttentionProblem problem, DevicePlan plan, byte* destination)
    {
        ref readonly ScratchLayout layout = ref plan.Scratch;
        WriteSequences(problem, (SequenceEntry*)(destination + layout.Sequences), (int*)(destination + layout.BlockTables));
        var items = (WorkItem*)(destination + layout.Items);
        foreach (AttentionKernel kernel in (ReadOnlySpan<AttentionKernel>)[AttentionKernel.Prefill, AttentionKernel.Plain, AttentionKernel.Decode])
        {
            items = Copy(plan.ItemsOf(kernel).Items, items);
        }

        Copy(plan.Merges.Items, (WorkItem*)(destination + layout.Merges));
        Copy(problem.AlibiSlopes.Span, (float*)(destination + layout.AlibiSlopes));
        Copy(problem.SinkLogits.Span, (float*)(destination + layout.SinkLogits));
    }

    private static void WriteSequences(AttentionProblem problem, SequenceEntry* entries, int* blocks)
    {
        long next = 0;
        foreach (ref readonly SequenceProblem sequence in problem.Sequences)
        {
            (int first, int end) = problem.NeededBlocks(sequence);
            *entries++ = SequenceEntry.Of(sequence, next - first);
            if (end > first && !problem.TablesAreElsewhere) Copy(new ReadOnlySpan<int>(sequence.BlockTable + first, end - first), blocks + next);
            next += end - first;
        }
    }

    /// <returns>Behind what was written.</returns>
    private static T* Copy<T>(ReadOnlySpan<T> from, T* to)
        where T : unmanaged
    {
        from.CopyTo(new Span<T>(to, from.Length));
        return to + from.Length;
    }
}
