using FusedAttention.Problems;

namespace FusedAttention.Diagnostics;

/// <summary>What a call tells its observers.</summary>
/// <param name="Backend">Where it runs, as <see cref="AttentionExplanation.Backend"/>. A constant: tags keep a reference to it.</param>
/// <param name="Kernel">What runs, as <see cref="AttentionExplanation.Kernel"/>. A constant.</param>
/// <param name="Queries">Query rows of all sequences together, heads not counted.</param>
/// <param name="Keys">Keys of all sequences together, heads not counted.</param>
/// <param name="Heads">Query heads.</param>
/// <param name="Dim">Key dimension.</param>
/// <param name="FloatingPointOperations">As <see cref="AttentionExplanation.FloatingPointOperations"/>; only needed if <see cref="AttentionTelemetry.CountsFloatingPointOperations"/>.</param>
internal readonly record struct CallDescription(string Backend, string Kernel, long Queries, long Keys, int Heads, int Dim, double FloatingPointOperations)
{
    public static CallDescription Of(AttentionProblem problem, string backend, string kernel, double floatingPointOperations)
    {
        long queries = 0;
        long keys = 0;
        foreach (ref readonly SequenceProblem sequence in problem.Sequences)
        {
            queries += sequence.QueryLength;
            keys += sequence.KeyLength;
        }

        return new CallDescription(backend, kernel, queries, keys, problem.QueryHeads, problem.KeyDim, floatingPointOperations);
    }
}

/// <summary>When a call started; default if nobody was listening then.</summary>
internal readonly record struct CallTimer(long StartTimestamp);
