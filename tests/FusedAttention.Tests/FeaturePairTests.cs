using Xunit;

namespace FusedAttention.Tests;

/// <summary>Each feature of a call beside each other one, by every instruction set, in prefill and decode.</summary>
public sealed class FeaturePairTests
{
    private static readonly AttentionElementType[] Types = [AttentionElementType.Float32, AttentionElementType.Float16, AttentionElementType.BFloat16];

    /// <inheritdoc cref="FeaturePairs.First"/>
    public static TheoryData<int> First => [.. FeaturePairs.First];

    /// <param name="first">A feature; those behind it in the list are beside it.</param>
    [Theory]
    [MemberData(nameof(First))]
    public void Both_are_there(int first)
    {
        foreach (int second in FeaturePairs.Beside(first))
        {
            foreach (CpuInstructionSet variant in Variants.Supported)
            {
                foreach (int queries in (int[])[70, 3])
                {
                    Problem problem = FeaturePairs.Of(first, second, FeaturePairs.FormOf(first, second, queries), Types[(first + second) % Types.Length], second % 2 == 0 ? 64 : 24, queries, 333);
                    problem = problem with { Execution = problem.Execution with { InstructionSet = variant } };
                    Caller.Run(problem).AssertClose(problem, CpuLimits.Of(problem));
                }
            }
        }
    }
}
