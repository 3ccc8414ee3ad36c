using FusedAttention.Devices;
using FusedAttention.Metal.Emulation;
using Xunit;

namespace FusedAttention.Metal.Tests;

/// <summary>Each three features of a call together, in prefill and decode.</summary>
public sealed class FeatureTripleTests
{
    private static readonly FeatureTriples Triples = new(hasFunctionsOfCodes: false);

    /// <param name="kernel">The kernel. Calls with functions, each of which is a library of its own, run only where everything is run. A sequence alone has the bits that it has beside another one.</param>
    [Theory]
    [InlineData(nameof(AttentionKernel.Prefill))]
    [InlineData(nameof(AttentionKernel.Decode))]
    public void All_three_are_there(string kernel)
    {
        AttentionKernel family = Enum.Parse<AttentionKernel>(kernel);
        using EmulatedRuntime runtime = MetalProblems.Start();
        for (int number = 0; number < Triples.Count; number++)
        {
            (Problem problem, Arrangement arrangement) = Triples.Of(number, number % 2 == 0 ? AttentionElementType.Float16 : AttentionElementType.BFloat16, 64, 64, family == AttentionKernel.Decode ? 3 : 40, 150);
            if (!MetalProblems.IsWhole && (problem.Options.ScoreFunction is not null || problem.Options.MaskFunction is not null)) continue;
            var caller = new MetalCaller(runtime, family);
            CallResult result = Caller.Run(problem, arrangement, caller);
            result.AssertClose(problem, RowByRow.Solve(problem));
            for (int s = 0; s < problem.Sequences; s++)
                CallResult.AssertSameBits(result.Output[s], Caller.Run(problem.Only(s), arrangement, caller).Output[0], $"{kernel}: sequence {s} alone, {problem}");
        }
    }
}
