using Xunit;

namespace FusedAttention.Tests;

/// <summary>Each three features of a call together, in prefill and decode, by instruction sets in turns.</summary>
public sealed class FeatureTripleTests
{
    private static readonly FeatureTriples Triples = new(hasFunctionsOfCodes: true);

    private static readonly AttentionElementType[] Types = [AttentionElementType.Float32, AttentionElementType.Float16, AttentionElementType.BFloat16];

    /// <summary>And a sequence alone has the bits that it has beside another one.</summary>
    [Theory]
    [InlineData(70)]
    [InlineData(3)]
    public void All_three_are_there(int queries)
    {
        for (int number = 0; number < Triples.Count; number++)
        {
            (Problem problem, Arrangement arrangement) = Triples.Of(number, Types[number % Types.Length], number % 2 == 0 ? 64 : 24, number % 4 < 2 ? 64 : 24, queries, 333);
            CpuInstructionSet variant = Variants.Supported[(number + queries) % Variants.Supported.Length];
            problem = problem with { Execution = problem.Execution with { InstructionSet = variant, MachineCode = number % 5 == 0 ? CpuMachineCode.Off : CpuMachineCode.Auto } };
            CallResult result = Caller.Run(problem, arrangement);
            result.AssertClose(problem, CpuLimits.Of(problem));
            if (number % 3 != 0) continue;
            for (int s = 0; s < problem.Sequences; s++)
                CallResult.AssertSameBits(result.Output[s], Caller.Run(problem.Only(s), arrangement).Output[0], $"sequence {s} alone, {problem}");
        }
    }
}
