using System.ComponentModel;

namespace FusedAttention;

/// <content>How to compute, from before <see cref="CpuExecution"/> and the calls' cancellation token: programs written then compile and mean what they meant, until 1.0.</content>
public sealed partial record AttentionOptions
{
    // Kept as what the doors need, so that a call which takes it from here allocates nothing.
    private readonly CpuExecution _execution = CpuExecution.Default;

    /// <summary><see cref="CpuExecution.MaxDegreeOfParallelism"/> of calls that are given no <see cref="CpuExecution"/>.</summary>
    /// <exception cref="ArgumentOutOfRangeException">The value is 0 or below -1.</exception>
    [Obsolete("Threads are no part of what is computed: say CpuExecution.MaxDegreeOfParallelism, which every call takes. This goes with 1.0.")]
    [EditorBrowsable(EditorBrowsableState.Never)]
    public int MaxDegreeOfParallelism
    {
        get => _execution.MaxDegreeOfParallelism;
        init => _execution = _execution with { MaxDegreeOfParallelism = value };
    }

    /// <summary><see cref="CpuExecution.InstructionSet"/> of calls that are given no <see cref="CpuExecution"/>; a GPU passes it over.</summary>
    [Obsolete("The instruction set is no part of what is computed: say CpuExecution.InstructionSet, which every call takes. This goes with 1.0.")]
    [EditorBrowsable(EditorBrowsableState.Never)]
    public CpuInstructionSet InstructionSet
    {
        get => _execution.InstructionSet;
        init => _execution = _execution with { InstructionSet = value };
    }

    /// <summary>The token of calls that are given none.</summary>
    [Obsolete("Give the token to the call: say CpuExecution for the rest of how to compute, and the parameter cancellationToken for this. It goes with 1.0.")]
    [EditorBrowsable(EditorBrowsableState.Never)]
    public CancellationToken CancellationToken { get; init; }

    /// <summary>How a call runs: as it was told, and where it was told nothing, as these options say.</summary>
    internal (CpuExecution Execution, CancellationToken CancellationToken) Resolve(CpuExecution? execution, CancellationToken cancellationToken)
    {
#pragma warning disable CS0618 // the one reader of what the options said before
        return (execution ?? _execution, cancellationToken.CanBeCanceled ? cancellationToken : CancellationToken);
#pragma warning restore CS0618
    }
}
