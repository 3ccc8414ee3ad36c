using BenchmarkDotNet.Attributes;
using FusedAttention.Metal.ObjectiveC;
using FusedAttention.Metal.Tests.Host;

namespace FusedAttention.Benchmarks;

/// <summary>
/// The host's work for a warm call on a Metal device down to the messages, which a fake Objective-C runtime takes and forgets: what <see cref="MetalHostBenchmarks"/> has, and encoding. What a real Metal does with a message comes on top.
/// </summary>
public unsafe class MetalSendBenchmarks : IDisposable
{
    private const int Layers = 32;

    private static readonly AttentionOptions Causal = new() { Mask = AttentionMask.Causal };

    private MetalDevice _device = null!;
    private MetalPagedKeyValueCache<Half> _cache = null!;
    private PagedBatch _step = null!;
    private MetalTensor<Half> _one = null!;
    private MetalTensor<Half> _output = null!;
    private MetalTensor<Half> _rows = null!;

    [GlobalSetup]
    public void Create()
    {
        if (FakeLibrary.SkipReason is { } reason) throw new NotSupportedException(reason);
        ((delegate* unmanaged<void>)FakeLibrary.Function("fake_reset"))();
        fixed (byte* name = "quiet"u8) ((delegate* unmanaged<byte*, nint, void>)FakeLibrary.Function("fake_set"))(name, 1);
        _device = new(new MetalRuntime(NativeObject.Own(Native.CreateSystemDefaultDevice(), "the device")));
        _one = _device.Allocate<Half>(1, 32, 128);
        _output = _device.Allocate<Half>(1, 32, 128);
        _rows = _device.Allocate<Half>(1, 8, 128);
        _cache = new(_device, new PagedKeyValueCacheOptions { Layers = Layers, Blocks = 64, BlockSize = 16, KeyValueHeads = 8, KeyDim = 128 });
        CacheSequence sequence = _cache.CreateSequence();
        _cache.Extend(sequence, 900);
        _step = _cache.CreateBatch();
        _step.Add(sequence, 1);
    }

    [GlobalCleanup]
    public void Dispose()
    {
        _cache?.Dispose();
        GC.SuppressFinalize(this);
    }

    /// <summary>A step of one sequence over 32 layers of a cache, each written and attended to: 64 calls, each a command buffer. A call's share.</summary>
    [Benchmark(OperationsPerInvoke = 2 * Layers)]
    public void Layers32() => Step();

    /// <summary>The same in a batch.</summary>
    [Benchmark(OperationsPerInvoke = 2 * Layers)]
    public void Layers32InBatch()
    {
        using (_device.Batch()) Step();
    }

    private void Step()
    {
        for (int layer = 0; layer < Layers; layer++)
        {
            _cache.Write(layer, _step, _rows, _rows);
            MetalAttention.ForwardPaged(_one, _output, _cache, layer, _step, Causal);
        }
    }
}
