using BenchmarkDotNet.Attributes;
using FusedAttention.Metal.Emulation;

namespace FusedAttention.Benchmarks;

/// <summary>
/// The host's work for a warm call on a Metal device, from the door to the runtime, over one that does nothing: checks, plan, tables, launches. At most 8 us are wanted; Allocated must be empty.
/// </summary>
public class MetalHostBenchmarks : IDisposable
{
    private const int Layers = 32;

    private static readonly AttentionOptions Causal = new() { Mask = AttentionMask.Causal };

    private readonly MetalDevice _device = new(new QuietRuntime());
    private readonly int[] _steps = [.. Enumerable.Range(0, 65)];
    private readonly int[] _contexts = [.. Enumerable.Range(0, 64).Select(static i => 900 + i)];
    private readonly int[] _tables = [.. Enumerable.Range(0, 64 * 64)];
    private MetalTensor<Half> _query = null!;
    private MetalTensor<Half> _output = null!;
    private MetalTensor<Half> _key = null!;
    private MetalTensor<Half> _context = null!;
    private MetalTensor<Half> _one = null!;
    private MetalTensor<Half> _oneOutput = null!;
    private MetalTensor<Half> _batch = null!;
    private MetalTensor<Half> _batchOutput = null!;
    private MetalTensor<Half> _cache = null!;

    private MetalPagedKeyValueCache<Half> _layers = null!;
    private PagedBatch _step = null!;
    private MetalTensor<Half> _rows = null!;

    [GlobalSetup]
    public void Create()
    {
        _query = _device.Allocate<Half>(1, 512, 32, 128);
        _output = _device.Allocate<Half>(1, 512, 32, 128);
        _key = _device.Allocate<Half>(1, 4096, 8, 128);
        _one = _device.Allocate<Half>(1, 32, 128);
        _oneOutput = _device.Allocate<Half>(1, 32, 128);
        _context = _key.Reshape(4096, 8, 128);
        _batch = _device.Allocate<Half>(64, 32, 128);
        _batchOutput = _device.Allocate<Half>(64, 32, 128);
        _cache = _device.Allocate<Half>(4096, 16, 8, 128);
        _rows = _device.Allocate<Half>(1, 8, 128);
        _layers = new(_device, new PagedKeyValueCacheOptions { Layers = Layers, Blocks = 64, BlockSize = 16, KeyValueHeads = 8, KeyDim = 128 });
        CacheSequence sequence = _layers.CreateSequence();
        _layers.Extend(sequence, 900);
        _step = _layers.CreateBatch();
        _step.Add(sequence, 1);
    }

    [GlobalCleanup]
    public void Dispose()
    {
        _layers?.Dispose();
        GC.SuppressFinalize(this);
    }

    /// <summary>512 queries of 32 heads on 8 over 4096 keys: 64 blocks of rows.</summary>
    [Benchmark]
    public void Prefill512() => MetalAttention.Forward(_query, _key, _key, _output, Causal);

    /// <summary>One query over 4096 keys: 16 splits and their merge.</summary>
    [Benchmark]
    public void Decode4096() => MetalAttention.Forward(_one, _context, _context, _oneOutput, Causal);

    /// <summary>A step of one sequence from a paged cache, 900 tokens in 57 blocks.</summary>
    [Benchmark]
    public void PagedDecode1() => MetalAttention.ForwardPaged(_one, _cache, _cache, _oneOutput, new PagedSequences(_steps.AsSpan(0, 2), _contexts.AsSpan(0, 1), _tables.AsSpan(0, 64), 64), Causal);

    /// <summary>A step of one sequence over 32 layers of a cache, each written and attended to: 64 calls, each a command buffer. A call's share.</summary>
    [Benchmark(OperationsPerInvoke = 2 * Layers)]
    public void Layers32() => Step();

    /// <summary>The same in a batch: one command buffer.</summary>
    [Benchmark(OperationsPerInvoke = 2 * Layers)]
    public void Layers32InBatch()
    {
        using (_device.Batch()) Step();
    }

    /// <summary>A step of 64 sequences from a paged cache, about 930 tokens each: 256 splits, 3,700 entries of block tables.</summary>
    [Benchmark]
    public void PagedDecode64() => MetalAttention.ForwardPaged(_batch, _cache, _cache, _batchOutput, new PagedSequences(_steps, _contexts, _tables, 64), Causal);

    private void Step()
    {
        for (int layer = 0; layer < Layers; layer++)
        {
            _layers.Write(layer, _step, _rows, _rows);
            MetalAttention.ForwardPaged(_one, _oneOutput, _layers, layer, _step, Causal);
        }
    }
}
