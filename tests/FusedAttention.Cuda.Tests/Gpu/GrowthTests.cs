using FusedAttention.Devices;
using Xunit;

namespace FusedAttention.Cuda.Tests.Gpu;

/// <summary>Rows whose scores grow on the way from the last key to the first, by more than weights relative to the maximum before can hold: kernels compute such a tile's scores once more.</summary>
public abstract class GrowthTests
{
    private protected GrowthTests(TestDevice device) => Problems = new(device);

    private GpuProblems Problems { get; }

    /// <summary>What makes them grow is in the last column of queries and keys, so that scores without that are wrong.</summary>
    [Theory]
    [InlineData(64, 64, 0)]
    [InlineData(128, 128, 0)]
    [InlineData(128, 128, 200)]
    [InlineData(192, 128, 0)]
    [InlineData(256, 256, 0)]
    public void Scores_that_grow_from_tile_to_tile_are_right(int keyDim, int valueDim, float softCap)
    {
        CudaDevice device = Problems.Open();
        using CudaStream stream = device.CreateStream();
        Problem problem = ProblemOf(keyDim, valueDim, softCap);
        using GpuCaller caller = new(device, AttentionKernel.Prefill, stream);
        GpuProblems.AssertClose(GpuProblems.Run(problem, null, caller), problem, RowByRow.Solve(problem), AttentionKernel.Prefill);
    }

    /// <summary>Distances that slopes below 0 make so large that floats beside them are further apart than weights can be: what differs by less than a rounding has weights of one size.</summary>
    [Theory]
    [InlineData(-1e3f)]
    [InlineData(-1e7f)]
    [InlineData(-1e10f)]
    [InlineData(-1e18f)]
    public void Scores_that_grow_with_steep_distances_are_right(float slope)
    {
        CudaDevice device = Problems.Open();
        using CudaStream stream = device.CreateStream();
        using GpuCaller caller = new(device, AttentionKernel.Prefill, stream);
        foreach (float softCap in (float[])[0, 200])
        {
            Problem problem = ProblemOf(64, 64, softCap);
            problem = problem with { Options = problem.Options with { AlibiSlopes = [slope], Mask = AttentionMask.Causal } };
            GpuProblems.AssertClose(GpuProblems.Run(problem, null, caller), problem, RowByRow.Solve(problem), AttentionKernel.Prefill);
        }
    }

    private static Problem ProblemOf(int keyDim, int valueDim, float softCap)
    {
        const int Keys = 600, Queries = 70;
        Problem problem = new ProblemGenerator(keyDim + valueDim).Fill(new Problem
        {
            Name = "growing scores",
            Form = CallForm.Dense,
            QueryType = AttentionElementType.Float16,
            KeyValueType = AttentionElementType.Float16,
            Heads = 1,
            KeyValueHeads = 1,
            KeyDim = keyDim,
            ValueDim = valueDim,
            QueryLengths = [Queries],
            KeyLengths = [Keys],
            KeyCapacity = Keys,
            Query = [],
            Key = [],
            Value = [],
            Options = new AttentionOptions { SoftCap = softCap },
        });

        // 12 natural logarithms in 48 keys, the shortest tile of these dimensions that some kernel has: 2^17.
        for (int i = 0; i < Queries; i++) problem.Query[0][((i + 1) * keyDim) - 1] = (float)(Half)MathF.Sqrt(keyDim);
        for (int i = 0; i < Keys; i++) problem.Key[0][((i + 1) * keyDim) - 1] = (Keys - 1 - i) / 48 * 12;
        return problem;
    }
}
