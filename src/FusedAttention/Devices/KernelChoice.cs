using FusedAttention.Problems;

namespace FusedAttention.Devices;

/// <summary>
/// Which kernel a sequence gets: by its own number of rows and the call's dimensions, never by the batch. With <see cref="AttentionProblem.RowInvariant"/> all sequences
/// get the same one, without splits.
/// </summary>
/// <param name="Many">For sequences with many rows.</param>
/// <param name="Few">For sequences with few rows.</param>
/// <param name="Splits">Whether the keys of sequences with few rows are split.</param>
internal readonly record struct KernelChoice(AttentionKernel Many, AttentionKernel Few, bool Splits)
{
    /// <param name="problem">The call.</param>
    /// <param name="hasPrefill">Whether the prefill kernel takes the call's dimensions on this device.</param>
    /// <param name="hasDecode">Whether the decode kernel does.</param>
    /// <param name="forced">The only kernel to use; null for the choice that calls get.</param>
    /// <exception cref="NotSupportedException">The forced kernel does not take the dimensions.</exception>
    public static KernelChoice Of(AttentionProblem problem, bool hasPrefill, bool hasDecode, AttentionKernel? forced = null)
    {
        if (forced is AttentionKernel kernel)
        {
            bool takes = kernel switch
            {
                AttentionKernel.Prefill => hasPrefill,
                AttentionKernel.Decode => hasDecode,
                _ => true,
            };
            if (!takes) throw new NotSupportedException($"The kernel {kernel} does not take dimensions {problem.KeyDim}/{problem.ValueDim}.");
            return new(kernel, kernel, !problem.RowInvariant && kernel != AttentionKernel.Prefill);
        }

        AttentionKernel many = hasPrefill ? AttentionKernel.Prefill : AttentionKernel.Plain;
        if (problem.RowInvariant) return new(many, many, Splits: false);
        return new(many, hasDecode ? AttentionKernel.Decode : AttentionKernel.Plain, Splits: true);
    }
}
