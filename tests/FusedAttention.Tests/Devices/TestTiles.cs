using FusedAttention.Devices;

namespace FusedAttention.Tests.Devices;

/// <summary>A backend with small round numbers.</summary>
internal readonly struct TestTiles(KernelChoice choice, double budget = double.PositiveInfinity, bool mergesInKernel = false, SplitFolding? folding = null) : ITileTable
{
    public KernelChoice Choice { get; } = choice;

    public int MostFewRows => 16;

    public int MinSplitKeys => 64;

    public int MostSplits => 4;

    public bool MergesInKernel { get; } = mergesInKernel;

    public SplitFolding? Folding { get; } = folding;

    public int MergeRows => 4;

    public int TableBoundary => 256;

    public double SubmissionBudget { get; } = budget;

    public static TestTiles PrefillAndDecode(double budget = double.PositiveInfinity, bool mergesInKernel = false) =>
        new(new(AttentionKernel.Prefill, AttentionKernel.Decode, Splits: true), budget, mergesInKernel);

    /// <summary>Splits of 64 keys in groups of 128 or more, at most 4 of them, on a device of 4 multiprocessors with two blocks each.</summary>
    public static TestTiles Folded(ItemKeys? forced) => new(new(AttentionKernel.Prefill, AttentionKernel.Decode, Splits: true), mergesInKernel: true, folding: new(64, 128, 4, 4, 2, forced));

    public int ItemRows(AttentionKernel kernel) => kernel == AttentionKernel.Prefill ? 32 : 8;

    public double CostOfWork(AttentionKernel kernel) => kernel == AttentionKernel.Prefill ? 1 : 2;
}
