using BenchmarkDotNet.Attributes;

namespace FusedAttention.Benchmarks;

/// <summary>
/// The two products of the prefill kernel from the second-level cache, repeated until about 8 million multiply-adds are done, whatever the shape of the register tile: 16.8 MFLOP
/// in all, so 0.1 ms is 168 GFLOP/s.
/// </summary>
public class RegisterTileBenchmarks
{
    private const long MultiplyAdds = 1 << 23;

    private TileKernels _kernels = null!;
    private long _repeats;

    public static IEnumerable<CpuInstructionSet> Sets => InstructionSets.Supported;

    [ParamsSource(nameof(Sets))]
    public CpuInstructionSet Set { get; set; }

    [GlobalSetup]
    public void Create()
    {
        _kernels = TileKernels.Create(Set);
        _repeats = MultiplyAdds / _kernels.TileMultiplyAdds;
    }

    [GlobalCleanup]
    public void Free() => _kernels.Dispose();

    [Benchmark]
    public void Scores()
    {
        for (long i = 0; i < _repeats; i++) _kernels.Scores();
    }

    [Benchmark]
    public void Outputs()
    {
        for (long i = 0; i < _repeats; i++) _kernels.Outputs();
    }
}
