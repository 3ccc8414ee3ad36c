using FusedAttention.Devices;
using Xunit;

namespace FusedAttention.Cuda.Tests.Gpu;

/// <summary>
/// Random problems over all features and memory layouts against the oracle, every element within its own error limit, with NaN wherever a kernel has no right to read and sentinels wherever it has none to
/// write. FUSEDATTENTION_GPU_SWEEP=n has n times as many problems.
/// </summary>
public abstract class SweepTests
{
    private protected SweepTests(TestDevice device) => Problems = new(device);

    private GpuProblems Problems { get; }

    /// <summary>Every pair of types and dimensions once.</summary>
    private const int Configurations = 140;

    private const int ProblemsOfConfiguration = 20;

    private static readonly int Times = Environment.GetEnvironmentVariable("FUSEDATTENTION_GPU_SWEEP") is { Length: > 0 } text && int.TryParse(text, out int times) ? times : 1;

    public static TheoryData<int> Quarters => [.. Enumerable.Range(0, 4)];

    /// <summary>With the kernels that calls get, and in turns with each one that takes the problem.</summary>
    [Theory]
    [MemberData(nameof(Quarters))]
    public void Results_are_within_the_error_limit_of_the_oracle(int part) => Problems.ForEach(Enumerable.Range(0, Configurations / 4), (i, stream) =>
    {
        int configuration = (part * (Configurations / 4)) + i;
        using GpuCaller chosen = new(stream.Device, null, stream), prefill = new(stream.Device, AttentionKernel.Prefill, stream), decode = new(stream.Device, AttentionKernel.Decode, stream);
        using GpuCaller plain = new(stream.Device, AttentionKernel.Plain, stream);
        GpuCaller[] forced = [prefill, decode, plain];
        for (int n = 0; n < ProblemsOfConfiguration * Times; n++)
        {
            (Problem problem, Arrangement arrangement, int shift, _) = GpuConfiguration.Next(configuration, 700_000 + (configuration * 1000) + n);
            Solution solution = RowByRow.Solve(problem);
            foreach (GpuCaller caller in (GpuCaller[])[chosen, forced[n % 3]])
            {
                caller.Shift = shift;
                if (GpuProblems.TryRun(problem, arrangement, caller) is { } result)
                    GpuProblems.AssertClose(result, problem, solution, caller.Forced, $"configuration {configuration}, shifted by {shift} elements, {arrangement}");
            }
        }
    });
}
