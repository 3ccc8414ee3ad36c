using FusedAttention.Devices;
using Xunit;

namespace FusedAttention.Cuda.Tests.Gpu;

/// <summary>Each three features of a call together, over several tiles, in the prefill and the decode.</summary>
public abstract class FeatureTripleTests
{
    private static readonly Lazy<FeatureTriples> Triples = new(static () => new(hasFunctionsOfCodes: false));

    /// <summary>Of each tile that differs by the warpgroups that compute, by what is in shared memory or by halves that are filled.</summary>
    private static readonly (int Key, int Value)[] Dims = [(64, 64), (16, 16), (80, 80), (128, 128), (192, 128), (32, 96), (256, 256)];

    private protected FeatureTripleTests(TestDevice device) => Problems = new(device);

    private GpuProblems Problems { get; }

    /// <summary>And a sequence alone has the bits that it has beside another one.</summary>
    [Fact]
    public void All_three_are_there() => Problems.ForEach(Enumerable.Range(0, Triples.Value.Count), (number, stream) =>
    {
        (int keyDim, int valueDim) = Dims[number % Dims.Length];
        AttentionElementType type = number / Dims.Length % 2 == 0 ? AttentionElementType.Float16 : AttentionElementType.BFloat16;
        foreach (AttentionKernel kernel in (AttentionKernel[])[AttentionKernel.Prefill, AttentionKernel.Decode])
        {
            if (!Problems.Target.Tests(kernel)) continue;
            using GpuCaller caller = new(stream.Device, kernel, stream);
            (Problem problem, Arrangement arrangement) = Triples.Value.Of(number, type, keyDim, valueDim, kernel == AttentionKernel.Decode ? 3 : 70, 333);
            CallResult result = GpuProblems.Run(problem, arrangement, caller);
            GpuProblems.AssertClose(result, problem, Solve(problem, kernel), kernel, problem.Name);
            for (int s = 0; s < problem.Sequences; s++)
            {
                CallResult alone = GpuProblems.Run(problem.Only(s), arrangement, caller);
                CallResult.AssertSameBits(result.Output[s], alone.Output[0], $"{kernel}: sequence {s} alone, {problem}");
            }
        }
    });

    /// <summary>A prefill of codes rounds values times their scales as well, and multiplies them by weights that lose alike.</summary>
    private static Solution Solve(Problem problem, AttentionKernel kernel)
    {
        bool roundsValues = kernel == AttentionKernel.Prefill && problem.KeyValueType != problem.QueryType;
        Solution solution = EightBitTests.Solve(problem, roundsValues);
        return roundsValues ? solution.WithRoundedWeights(problem.QueryType, problem.QueryType) : solution;
    }
}
