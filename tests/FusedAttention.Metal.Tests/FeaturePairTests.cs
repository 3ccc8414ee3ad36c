using FusedAttention.Devices;
using FusedAttention.Metal.Emulation;
using Xunit;

namespace FusedAttention.Metal.Tests;

/// <summary>Each feature of a call beside each other one, in prefill and decode.</summary>
public sealed class FeaturePairTests
{
    /// <inheritdoc cref="FeaturePairs.First"/>
    public static TheoryData<int> First => [.. FeaturePairs.First];

    /// <param name="first">A feature; those behind it in the list are beside it. Functions, each of which is a library of its own, only where everything is run.</param>
    [Theory]
    [MemberData(nameof(First))]
    public void Both_are_there(int first)
    {
        using EmulatedRuntime runtime = MetalProblems.Start();
        foreach (int second in FeaturePairs.Beside(first))
        {
            if (FeaturePairs.HasFunction(first, second) && !MetalProblems.IsWhole) continue;
            foreach (AttentionKernel kernel in (AttentionKernel[])[AttentionKernel.Prefill, AttentionKernel.Decode])
            {
                Problem problem = FeaturePairs.Of(first, second, FeaturePairs.FormOf(first, second, (int)kernel), second % 2 == 0 ? AttentionElementType.Float16 : AttentionElementType.Float32, 64, kernel == AttentionKernel.Decode ? 3 : 40, 150);
                Caller.Run(problem, null, new MetalCaller(runtime, kernel)).AssertClose(problem, RowByRow.Solve(problem));
            }
        }
    }
}
