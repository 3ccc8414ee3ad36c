using FusedAttention.Checking.Measurement;
using FusedAttention.Comparison.Cases;
using FusedAttention.Comparison.Reporting;

namespace FusedAttention.Comparison.Tests;

/// <summary>A report with every kind of result in it: ahead, behind, not offered, wrong.</summary>
internal static class ReportSample
{
    public const string Ours = "FusedAttention";
    public const string Peer = "peer <1> | a";
    public const string OtherPeer = "peer 2";

    public static ComparisonReport Create() => new()
    {
        StartedUtc = new DateTime(2026, 1, 2, 3, 4, 5, DateTimeKind.Utc),
        Minutes = 1.5,
        Machine = new("Some & Processor", 2, 16, "Some OS", ".NET 10"),
        Threads = 1,
        SecondsEach = 0.5,
        InstructionSet = CpuInstructionSet.Avx2,
        Contenders = [new(Ours, "0.1.0", "token-major", true), new(Peer, "1.0", "token-major", false), new(OtherPeer, "2.0", "head-major", false)],
        MultiplyAdds = [new(CpuInstructionSet.Avx2, 1, 100), new(CpuInstructionSet.Avx2, 2, 190)],
        Reads = [new(1, 20), new(2, 30)],
        Ceilings = new Ceilings(CpuInstructionSet.Avx2, 1, 100, 20),
        Load = new("0.1 0.2 0.3", null, 0.02),
        Rows =
        [
            Row(new(CaseKind.Prefill, AttentionElementType.Float32, 8, 8, 64, 512, 512, false), Timed(Ours, 2), Timed(Peer, 3), NotOffered(OtherPeer)),
            Row(new(CaseKind.Prefill, AttentionElementType.Float32, 8, 8, 64, 2048, 2048, false), Timed(Ours, 30), Timed(Peer, 20), Wrong(OtherPeer)),
            Row(new(CaseKind.Decode, AttentionElementType.Float16, 32, 8, 128, 1, 4096, false), Timed(Ours, 1), Timed(Peer, 4), Timed(OtherPeer, 2)),
        ],
        Memory = [new(512, 8 << 20, 300 << 10), new(1024, 32 << 20, 300 << 10)],
    };

    private static ReportRow Row(AttentionCase attentionCase, params ReportResult[] results) => new()
    {
        Case = attentionCase,
        FloatingPointOperations = 1e8,
        KeyValueBytes = 10_000_000,
        ScratchBytes = 1000,
        ErrorAgainstDouble = 1e-7,
        ForeignProcessors = 0.01,
        Results = results,
    };

    private static ReportResult Timed(string contender, double milliseconds) => new()
    {
        Contender = contender,
        IsOurs = string.Equals(contender, Ours, StringComparison.Ordinal),
        Status = ResultStatus.Timed,
        BestMilliseconds = milliseconds,
        MedianMilliseconds = milliseconds * 1.1,
        Trials = 5,
        MaxAbsoluteError = 1e-6,
        GigaflopsPerSecond = 100 / milliseconds,
        GigabytesPerSecond = 10 / milliseconds,
        ShareOfCeiling = 1 / milliseconds,
    };

    private static ReportResult NotOffered(string contender)
        => new() { Contender = contender, IsOurs = false, Status = ResultStatus.NotOffered, Note = "no such kernel" };

    private static ReportResult Wrong(string contender)
        => new() { Contender = contender, IsOurs = false, Status = ResultStatus.Mismatch, MaxAbsoluteError = double.NaN, Note = "differs from ours by NaN" };
}
