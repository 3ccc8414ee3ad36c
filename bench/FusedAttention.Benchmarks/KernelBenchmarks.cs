using BenchmarkDotNet.Attributes;

namespace FusedAttention.Benchmarks;

/// <summary>What both algorithms are made of, on a tile of 128 keys and D = 128. Times are those of one element of the tile; an element is 4 or 2 bytes.</summary>
public class KernelBenchmarks
{
    private const int Elements = TileKernels.Keys * TileKernels.Dim;

    private TileKernels _kernels = null!;

    public static IEnumerable<CpuInstructionSet> Sets => InstructionSets.Supported;

    [ParamsSource(nameof(Sets))]
    public CpuInstructionSet Set { get; set; }

    [GlobalSetup]
    public void Create() => _kernels = TileKernels.Create(Set);

    [GlobalCleanup]
    public void Free() => _kernels.Dispose();

    [Benchmark(OperationsPerInvoke = Elements)]
    public void Exp2() => _kernels.Exp2Pass();

    [Benchmark(OperationsPerInvoke = Elements)]
    public void WidenFloat16() => _kernels.Widen(AttentionElementType.Float16);

    [Benchmark(OperationsPerInvoke = Elements)]
    public void WidenBFloat16() => _kernels.Widen(AttentionElementType.BFloat16);

    [Benchmark(OperationsPerInvoke = Elements)]
    public void PackFloat32() => _kernels.Pack(AttentionElementType.Float32);

    [Benchmark(OperationsPerInvoke = Elements)]
    public void PackFloat16() => _kernels.Pack(AttentionElementType.Float16);

    [Benchmark(OperationsPerInvoke = Elements)]
    public void DotFloat32() => _kernels.DotProducts(AttentionElementType.Float32);

    [Benchmark(OperationsPerInvoke = Elements)]
    public void DotFloat16() => _kernels.DotProducts(AttentionElementType.Float16);

    [Benchmark(OperationsPerInvoke = Elements)]
    public void DotBFloat16() => _kernels.DotProducts(AttentionElementType.BFloat16);
}
