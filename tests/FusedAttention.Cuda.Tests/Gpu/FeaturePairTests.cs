using FusedAttention.Devices;
using Xunit;

namespace FusedAttention.Cuda.Tests.Gpu;

/// <summary>Each feature of a call beside each other one, over several tiles, in the prefill and the decode.</summary>
public abstract class FeaturePairTests
{
    private protected FeaturePairTests(TestDevice device) => Problems = new(device);

    private GpuProblems Problems { get; }

    /// <inheritdoc cref="FeaturePairs.First"/>
    public static TheoryData<int> First => [.. FeaturePairs.First];

    /// <param name="first">A feature; those behind it in the list are beside it.</param>
    [Theory]
    [MemberData(nameof(First))]
    public void Both_are_there(int first)
    {
        using CudaStream stream = Problems.Open().CreateStream();
        foreach (int second in FeaturePairs.Beside(first))
        {
            int number = first + second;
            AttentionElementType type = number % 2 == 0 ? AttentionElementType.Float16 : AttentionElementType.BFloat16;

            // Of each tile that differs by the warpgroups that compute: three, and two.
            int dim = (number % 3) switch { 0 => 16, 1 => 80, _ => 64 };
            foreach (AttentionKernel kernel in (AttentionKernel[])[AttentionKernel.Prefill, AttentionKernel.Decode])
            {
                if (!Problems.Target.Tests(kernel)) continue;
                using GpuCaller caller = new(stream.Device, kernel, stream);
                Problem problem = FeaturePairs.Of(first, second, FeaturePairs.FormOf(first, second, (int)kernel), type, dim, kernel == AttentionKernel.Decode ? 3 : 70, 333);
                GpuProblems.AssertClose(GpuProblems.Run(problem, null, caller), problem, RowByRow.Solve(problem), kernel, problem.Name);
            }
        }
    }
}
