using FusedAttention.Metal.Launching;
using FusedAttention.Problems;

namespace FusedAttention.Metal.Planning;

/// <summary>
/// Which kernel a sequence gets: by its own number of rows and the call's dimensions, never by the batch. With <see cref="AttentionProblem.RowInvariant"/> all sequences
/// get the same one, without splits.
/// </summary>
internal sealed class KernelChoice
{
    private KernelChoice(KernelFamily many, KernelFamily few, bool splits)
    {
        Many = many;
        Few = few;
        Splits = splits;
    }

    /// <summary>For sequences with many rows.</summary>
    public KernelFamily Many { get; }

    /// <summary>For sequences with few rows.</summary>
    public KernelFamily Few { get; }

    /// <summary>Whether the keys of sequences with few rows are split.</summary>
    public bool Splits { get; }

    /// <param name="problem">The call.</param>
    /// <param name="device">Where it will run.</param>
    /// <param name="forced">The only kernel to use, where it can take the call; for tests.</param>
    public static KernelChoice Of(AttentionProblem problem, MetalDeviceDescription device, KernelFamily? forced)
    {
        if (problem.KeyDim > TileTable.MaxPlainDim || problem.ValueDim > TileTable.MaxPlainDim)
        {
            throw new NotSupportedException($"The Metal kernels take dimensions up to {TileTable.MaxPlainDim}; the key dimension is {problem.KeyDim} and the value dimension {problem.ValueDim}.");
        }

        bool hasPrefill = device.HasKnownLaneMap && TileTable.Prefill(problem.KeyDim, problem.ValueDim, problem.KeyValueType) is not null;
        bool hasDecode = TileTable.Decode(problem.KeyDim, problem.ValueDim) is not null;
        bool splits = !problem.RowInvariant;
        if (forced is KernelFamily family)
        {
            bool takes = family == KernelFamily.Plain || (family == KernelFamily.Prefill && hasPrefill) || (family == KernelFamily.Decode && hasDecode);
            if (!takes) throw new NotSupportedException($"The kernel {family} does not take dimensions {problem.KeyDim}/{problem.ValueDim}.");
            return new KernelChoice(family, family, splits && family != KernelFamily.Prefill);
        }

        KernelFamily many = hasPrefill ? KernelFamily.Prefill : KernelFamily.Plain;
        return problem.RowInvariant ? new KernelChoice(many, many, splits: false) : new KernelChoice(many, hasDecode ? KernelFamily.Decode : KernelFamily.Plain, splits: true);
    }
}
