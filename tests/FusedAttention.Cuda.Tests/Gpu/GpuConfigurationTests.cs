using Xunit;

namespace FusedAttention.Cuda.Tests.Gpu;

/// <summary>The problems that GPUs are tested with, on the processor: they are problems, and nothing is wrong with the limits that they are compared by.</summary>
public sealed class GpuConfigurationTests
{
    public static TheoryData<int> Configurations => [.. Enumerable.Range(0, 140).Where(static n => n % 7 == 3)];

    [Theory]
    [MemberData(nameof(Configurations))]
    public void Problems_of_a_configuration_are_solved_by_the_processor(int configuration)
    {
        (Problem problem, Arrangement arrangement, _, _) = GpuConfiguration.Next(configuration, configuration);
        Solution solution = RowByRow.Solve(problem);
        CallResult result = Caller.Run(problem, arrangement);
        result.AssertClose(problem, solution);
        result.AssertClose(problem, solution.WithRoundedWeights(problem.KeyValueType, problem.QueryType));
    }
}
