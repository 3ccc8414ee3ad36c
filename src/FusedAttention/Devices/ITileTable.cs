namespace FusedAttention.Devices;

/// <summary>What a plan must know of a backend's kernels for one call: sizes of tiles and splits, resolved once, before anything is planned. Backends have structs for it.</summary>
internal interface ITileTable
{
    KernelChoice Choice { get; }

    /// <summary>Rows of a key/value head (queries times the group) up to which a sequence with more than one query has few.</summary>
    int MostFewRows { get; }

    /// <summary>Keys of a split, at least; a power of two.</summary>
    int MinSplitKeys { get; }

    /// <summary>Splits that longer ones keep a sequence to.</summary>
    int MostSplits { get; }

    /// <summary>How the kernel for few rows folds splits, so that items are cut by what the whole call has to do; null where each split is an item, and those of a sequence are merged at once.</summary>
    SplitFolding? Folding => null;

    /// <summary>Whether the last of the <see cref="WorkItem.Splits"/> of some rows to end merges them; otherwise a launch of its own does, behind all others.</summary>
    bool MergesInKernel { get; }

    /// <summary>Rows that an item of the merge of splits takes, where that is a launch of its own.</summary>
    int MergeRows { get; }

    /// <summary>What the places of tables are multiples of, in bytes; a power of two from 16 to 256.</summary>
    int TableBoundary { get; }

    /// <summary>Floating-point operations of one submission, about, by <see cref="CostOfWork"/>: where the system stops what runs for long. Infinity where it does not.</summary>
    double SubmissionBudget { get; }

    /// <summary>Rows that an item of a kernel takes.</summary>
    int ItemRows(AttentionKernel kernel);

    /// <summary>How much longer than the prefill kernel this one may take for the same arithmetic; merging counts as the plain one.</summary>
    double CostOfWork(AttentionKernel kernel);
}
