using System.Text.Json.Serialization;
using FusedAttention.Checking.Measurement;
using FusedAttention.Comparison.Cases;

namespace FusedAttention.Comparison.Reporting;

/// <summary>Everything one run found out: what the JSON holds, and what tables and charts are made from.</summary>
internal sealed record ComparisonReport
{
    public required DateTime StartedUtc { get; init; }

    public required double Minutes { get; init; }

    public required MachineFacts Machine { get; init; }

    /// <summary>Threads that each contender was told to use.</summary>
    public required int Threads { get; init; }

    /// <summary>Seconds that each contender had in each row.</summary>
    public required double SecondsEach { get; init; }

    /// <summary>The instruction set that our kernels ran.</summary>
    public required CpuInstructionSet InstructionSet { get; init; }

    public required IReadOnlyList<ContenderFacts> Contenders { get; init; }

    /// <summary>Multiply-adds of each instruction set and number of threads, GFLOP/s.</summary>
    public required IReadOnlyList<MultiplyAddCeiling> MultiplyAdds { get; init; }

    /// <summary>Reading memory by number of threads, GB/s.</summary>
    public required IReadOnlyList<ReadCeiling> Reads { get; init; }

    /// <summary>The two that shares are of: our instruction set, the threads of the run.</summary>
    public required Ceilings Ceilings { get; init; }

    public required LoadFacts Load { get; init; }

    public required IReadOnlyList<ReportRow> Rows { get; init; }

    /// <summary>Working memory of a prefill by its length.</summary>
    public required IReadOnlyList<MemoryPoint> Memory { get; init; }
}

/// <summary>A prefill of 8 heads and D = 128: what the scores of all heads take in single precision, and all working memory of ours.</summary>
internal sealed record MemoryPoint(int Length, long ScoreBytes, long ScratchBytes);

/// <summary>The machine by its processor.</summary>
internal sealed record MachineFacts(string Processor, int LogicalProcessors, double MemoryGigabytes, string OperatingSystem, string Runtime);

/// <summary>A contender's name, its version, and how it is given keys and values.</summary>
internal sealed record ContenderFacts(string Name, string Version, string Layout, bool IsOurs);

internal sealed record MultiplyAddCeiling(CpuInstructionSet InstructionSet, int Threads, double GigaflopsPerSecond);

internal sealed record ReadCeiling(int Threads, double GigabytesPerSecond);

/// <summary>What else the machine did: load averages before and after, processors kept busy by others during the timings.</summary>
internal sealed record LoadFacts(string? Before, string? After, double? ForeignProcessors);

/// <summary>One case and what each contender made of it.</summary>
internal sealed record ReportRow
{
    public required AttentionCase Case { get; init; }

    /// <summary>Of the allowed keys only: a causal row counts half of a full one.</summary>
    public required double FloatingPointOperations { get; init; }

    /// <summary>Keys and values once.</summary>
    public required long KeyValueBytes { get; init; }

    /// <summary>Our working memory.</summary>
    public required long ScratchBytes { get; init; }

    /// <summary>Our largest error against double precision on sampled rows.</summary>
    public required double ErrorAgainstDouble { get; init; }

    public required double? ForeignProcessors { get; init; }

    public required IReadOnlyList<ReportResult> Results { get; init; }

    [JsonIgnore]
    public ReportResult? Ours => Results.FirstOrDefault(r => r.IsOurs && r.IsTimed);

    [JsonIgnore]
    public ReportResult? BestPeer => Results.Where(r => !r.IsOurs && r.IsTimed).MinBy(r => r.BestMilliseconds);

    /// <summary>How many times as fast as the best peer we are; null without a peer.</summary>
    public double? Advantage => Ours is ReportResult ours && BestPeer is ReportResult peer ? peer.BestMilliseconds / ours.BestMilliseconds : null;
}

internal enum ResultStatus
{
    Timed,

    /// <summary>The contender does not have this case.</summary>
    NotOffered,

    /// <summary>Its output differs from ours by more than rounding, so its time means nothing.</summary>
    Mismatch,
}

/// <summary>One contender in one row; numbers are 0 unless timed.</summary>
internal sealed record ReportResult
{
    public required string Contender { get; init; }

    public required bool IsOurs { get; init; }

    public required ResultStatus Status { get; init; }

    /// <summary>Why it was not timed.</summary>
    public string? Note { get; init; }

    /// <summary>Against our output; null for ourselves and where there is no output.</summary>
    public double? MaxAbsoluteError { get; init; }

    public double BestMilliseconds { get; init; }

    public double MedianMilliseconds { get; init; }

    public int Trials { get; init; }

    /// <summary>From the best time, as all rates.</summary>
    public double GigaflopsPerSecond { get; init; }

    public double GigabytesPerSecond { get; init; }

    /// <summary>Share of the roofline: of multiply-adds, or of reading memory where that takes longer.</summary>
    public double ShareOfCeiling { get; init; }

    [JsonIgnore]
    public bool IsTimed => Status == ResultStatus.Timed;
}
