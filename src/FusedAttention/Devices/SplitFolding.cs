namespace FusedAttention.Devices;

/// <summary>
/// How a kernel for few rows brings the keys of a sequence together: splits are folded into groups in order, and groups into the whole. All of these begin at absolute multiples of their size, and sizes follow from the sequence's
/// visible keys alone. Whoever folds, a block of threads that has several splits or the last one to end, the arithmetic is the same: so what an item takes does not show in the bits, and follows from the whole call.
/// </summary>
/// <param name="SplitKeys">Keys of a split, a power of two.</param>
/// <param name="GroupKeys">Keys of a group at least, a power of two.</param>
/// <param name="MostGroups">Groups that longer ones keep a sequence to, and the most splits that are items.</param>
/// <param name="Multiprocessors">Of the device. One block on each reads as fast as memory gives.</param>
/// <param name="Blocks">Blocks of threads that a multiprocessor has at a time.</param>
/// <param name="Forced">What items take, as far as they can; null: what is fastest.</param>
internal readonly record struct SplitFolding(int SplitKeys, int GroupKeys, int MostGroups, int Multiprocessors, int Blocks, ItemKeys? Forced = null);

/// <summary>What one item takes of the keys of a sequence.</summary>
internal enum ItemKeys
{
    /// <summary>All of them.</summary>
    All,

    /// <summary>A group of splits.</summary>
    Group,

    /// <summary>A split.</summary>
    Split,
}
