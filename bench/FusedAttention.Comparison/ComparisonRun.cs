using System.Diagnostics;
using System.Runtime.InteropServices;
using FusedAttention.Checking.Measurement;
using FusedAttention.Comparison.Cases;
using FusedAttention.Comparison.Contenders;
using FusedAttention.Comparison.Measurement;
using FusedAttention.Comparison.Reporting;

namespace FusedAttention.Comparison;

/// <summary>One run: ceilings first, then row by row all contenders on the same inputs, checked before they are timed.</summary>
internal sealed class ComparisonRun(IReadOnlyList<AttentionCase> cases, PeerLibraries? peers, CpuExecution execution, int threads, TimeSpan timeForEach, Progress progress)
{
    /// <summary>Enough for the best of several ways to read a gigabyte, and for the clock to settle.</summary>
    private static readonly TimeSpan CeilingTime = TimeSpan.FromSeconds(1.5);

    private static readonly int[] MemoryLengths = [512, 1024, 2048, 4096, 8192, 16384, 32768, 65536, 131072];

    public ComparisonReport Execute()
    {
        DateTime started = DateTime.UtcNow;
        long start = Stopwatch.GetTimestamp();
        string? loadBefore = MachineLoad.LoadAverage;
        CpuInstructionSet instructionSet = cases[0].Explain(execution).InstructionSet!.Value;
        if (!MultiplyAddPeak.IsSupported(instructionSet)) throw new NotSupportedException("This machine has no fused multiply-adds.");

        (List<MultiplyAddCeiling> multiplyAdds, List<ReadCeiling> reads) = MeasureCeilings();
        var ceilings = new Ceilings(
            instructionSet, threads,
            multiplyAdds.First(c => c.InstructionSet == instructionSet && c.Threads == threads).GigaflopsPerSecond,
            reads.First(c => c.Threads == threads).GigabytesPerSecond);

        ContenderEntry[] entries = [OurContender.Entry(execution), .. peers?.Entries(threads) ?? []];
        var load = new MachineLoad();
        var rows = new List<ReportRow>();
        foreach (AttentionCase attentionCase in cases)
        {
            progress.Begin(rows.Count, cases.Count, attentionCase.Name);
            ReportRow row = MeasureRow(attentionCase, entries, ceilings);
            rows.Add(row);
            progress.End(row);
        }

        string version = typeof(Attention).Assembly.GetName().Version?.ToString(3) ?? "unknown";
        return new()
        {
            StartedUtc = started,
            Minutes = Math.Round(Stopwatch.GetElapsedTime(start).TotalMinutes, 1),
            Machine = new(
                Processor.Description, Environment.ProcessorCount, Math.Round(GC.GetGCMemoryInfo().TotalAvailableMemoryBytes / 1e9, 1),
                RuntimeInformation.OSDescription, RuntimeInformation.FrameworkDescription),
            Threads = threads,
            SecondsEach = timeForEach.TotalSeconds,
            InstructionSet = instructionSet,
            Contenders = [.. entries.Select(e => new ContenderFacts(
                e.Name, e.Version ?? $"{version}, {instructionSet}", e.Layout, e.IsOurs))],
            MultiplyAdds = multiplyAdds,
            Reads = reads,
            Ceilings = ceilings,
            Load = new(loadBefore, MachineLoad.LoadAverage, load.ForeignProcessors()),
            Rows = rows,
            Memory = [.. MemoryLengths.Select(MemoryAt)],
        };
    }

    /// <summary>Planned, not run: the plan says what a call rents.</summary>
    private MemoryPoint MemoryAt(int length)
    {
        var prefill = new AttentionCase(CaseKind.Prefill, AttentionElementType.Float32, 8, 8, 128, length, length, IsCausal: false);
        return new(length, prefill.ScoreBytes, prefill.Explain(execution).ScratchBytes);
    }

    private (List<MultiplyAddCeiling>, List<ReadCeiling>) MeasureCeilings()
    {
        var multiplyAdds = new List<MultiplyAddCeiling>();
        var reads = new List<ReadCeiling>();
        foreach (int count in new SortedSet<int> { 1, Math.Min(2, Environment.ProcessorCount), threads })
        {
            foreach (CpuInstructionSet set in (CpuInstructionSet[])[CpuInstructionSet.Scalar, CpuInstructionSet.Vector128, CpuInstructionSet.Avx2, CpuInstructionSet.Avx512])
            {
                if (!MultiplyAddPeak.IsSupported(set)) continue;
                progress.Note($"ceiling: multiply-adds, {set}, {count} thread(s)");
                multiplyAdds.Add(new(set, count, MultiplyAddPeak.Measure(set, count, CeilingTime)));
            }

            progress.Note($"ceiling: reading memory, {count} thread(s)");
            reads.Add(new(count, StreamingRead.Measure(count, 2 * CeilingTime)));
        }

        return (multiplyAdds, reads);
    }

    private ReportRow MeasureRow(AttentionCase c, ContenderEntry[] entries, Ceilings ceilings)
    {
        AttentionExplanation explanation = c.Explain(execution);
        var load = new MachineLoad();
        using var inputs = new CaseInputs(c);
        var ready = new List<(ContenderEntry Entry, Contender Contender)>();
        var results = new Dictionary<string, ReportResult>(StringComparer.Ordinal);
        float[] expected = new float[c.QueryElements];
        float[] actual = new float[c.QueryElements];
        double errorAgainstDouble = 0;
        try
        {
            foreach (ContenderEntry entry in entries)
            {
                var untimed = new ReportResult { Contender = entry.Name, IsOurs = entry.IsOurs, Status = ResultStatus.NotOffered };
                try
                {
                    Contender contender = entry.Create(c, inputs);
                    ready.Add((entry, contender));
                    contender.Run();
                    contender.CopyOutput(entry.IsOurs ? expected : actual);
                    contender.Rest();
                }
                catch (NotOfferedException e)
                {
                    results[entry.Name] = untimed with { Note = e.Message };
                    continue;
                }

                double error = entry.IsOurs
                    ? errorAgainstDouble = OutputCheck.SampledError(c, inputs, expected)
                    : OutputCheck.MaxAbsoluteError(expected, actual);
                results[entry.Name] = untimed with { Status = ResultStatus.Timed, MaxAbsoluteError = entry.IsOurs ? null : error };
                if (error <= (entry.IsOurs ? OutputCheck.Tolerance(c.QueryType) : OutputCheck.PeerTolerance(c, expected))) continue;
                results[entry.Name] = results[entry.Name] with
                {
                    Status = ResultStatus.Mismatch,
                    Note = $"differs from {(entry.IsOurs ? "double precision" : "ours")} by {error:g3}",
                };
                Remove(ready, entry);
            }

            Timing[] timings = InterleavedTiming.Measure([.. ready.Select(r => r.Contender)], timeForEach, threads, progress.Tick);
            for (int i = 0; i < timings.Length; i++)
            {
                string name = ready[i].Entry.Name;
                results[name] = results[name] with
                {
                    BestMilliseconds = timings[i].Best,
                    MedianMilliseconds = timings[i].Median,
                    Trials = timings[i].Trials,
                    GigaflopsPerSecond = explanation.FloatingPointOperations / 1e6 / timings[i].Best,
                    GigabytesPerSecond = explanation.KeyValueBytes / 1e6 / timings[i].Best,
                    ShareOfCeiling = ceilings.Share(explanation.FloatingPointOperations, explanation.KeyValueBytes, timings[i].Best),
                };
            }
        }
        finally
        {
            foreach ((_, Contender contender) in ready) contender.Dispose();
        }

        return new()
        {
            Case = c,
            FloatingPointOperations = explanation.FloatingPointOperations,
            KeyValueBytes = explanation.KeyValueBytes,
            ScratchBytes = explanation.ScratchBytes,
            ErrorAgainstDouble = errorAgainstDouble,
            ForeignProcessors = load.ForeignProcessors(),
            Results = [.. entries.Select(e => results[e.Name])],
        };
    }

    private static void Remove(List<(ContenderEntry Entry, Contender Contender)> ready, ContenderEntry entry)
    {
        int index = ready.FindIndex(r => ReferenceEquals(r.Entry, entry));
        ready[index].Contender.Dispose();
        ready.RemoveAt(index);
    }
}
