namespace FusedAttention.Devices;

/// <summary>Consecutive work items of one kernel, for one launch.</summary>
/// <param name="Kernel">Which kernel; of a merge, the one whose splits are merged.</param>
/// <param name="IsMerge">Whether splits are merged.</param>
/// <param name="ItemsOffset">Where the first item lies in the call's transient memory, in bytes.</param>
/// <param name="Count">How many items there are; each is worked on once for every key/value head.</param>
/// <param name="BeginsSubmission">Whether a new submission begins here.</param>
/// <param name="Cost">Floating-point operations, by <see cref="ITileTable.CostOfWork"/>.</param>
internal readonly record struct LaunchRange(AttentionKernel Kernel, bool IsMerge, long ItemsOffset, int Count, bool BeginsSubmission, double Cost);
