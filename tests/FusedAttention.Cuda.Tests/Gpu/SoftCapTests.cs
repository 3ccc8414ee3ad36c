using FusedAttention.Devices;
using Xunit;

namespace FusedAttention.Cuda.Tests.Gpu;

/// <summary>Soft caps from one end of what is taken to the other: powers of the scale over the cap are in the kernels' series.</summary>
public abstract class SoftCapTests
{
    private protected SoftCapTests(TestDevice device) => Problems = new(device);

    private GpuProblems Problems { get; }

    /// <summary>With scores that the cap leaves alone, bends and flattens; and with queries of zeros, whose scores are 0 under any cap.</summary>
    [Theory]
    [InlineData(9.094947e-13f)]
    [InlineData(1e-9f)]
    [InlineData(1e-6f)]
    [InlineData(1e-4f)]
    [InlineData(1f)]
    [InlineData(50f)]
    [InlineData(1e4f)]
    [InlineData(1e6f)]
    [InlineData(1e9f)]
    [InlineData(1.1529215e18f)]
    public void Any_cap_is_right(float cap)
    {
        CudaDevice device = Problems.Open();
        using CudaStream stream = device.CreateStream();
        foreach (bool isZero in (bool[])[false, true])
        {
            foreach (AttentionKernel kernel in GpuProblems.Kernels)
            {
                Problem problem = ProblemOf(cap, kernel == AttentionKernel.Decode ? 3 : 40);
                if (isZero) problem = problem with { Query = [new float[problem.Query[0].Length]] };
                using GpuCaller caller = new(device, kernel, stream);
                GpuProblems.AssertClose(GpuProblems.Run(problem, null, caller), problem, RowByRow.Solve(problem), kernel, $"cap {cap}, zeros: {isZero}");
            }
        }
    }

    private static Problem ProblemOf(float cap, int queries) => new ProblemGenerator(queries).Fill(new Problem
    {
        Name = "soft cap",
        Form = CallForm.Dense,
        QueryType = AttentionElementType.Float16,
        KeyValueType = AttentionElementType.Float16,
        Heads = 1,
        KeyValueHeads = 1,
        KeyDim = 64,
        ValueDim = 64,
        QueryLengths = [queries],
        KeyLengths = [150],
        KeyCapacity = 150,
        Query = [],
        Key = [],
        Value = [],
        Options = new AttentionOptions { SoftCap = cap },
    });
}
