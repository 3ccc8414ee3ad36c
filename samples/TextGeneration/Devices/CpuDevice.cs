using System.Numerics.Tensors;

namespace FusedAttention.Samples.TextGeneration.Devices;

/// <summary>The processor: nothing is copied.</summary>
/// <param name="threads">Threads to use at most; -1 for one per processor.</param>
internal sealed class CpuDevice(int threads) : IAttentionDevice
{
    private readonly CpuExecution _execution = new() { MaxDegreeOfParallelism = threads };

    public string Name => "the processor";

    public KeyValueCache CreateCache<T>(PagedKeyValueCacheOptions options)
        where T : unmanaged
        => new PagedKeyValueCache<T>(options);

    public void Attend(ReadOnlySpan<float> query, Span<float> output, int heads, KeyValueCache cache, int layer, PagedBatch batch, AttentionOptions options)
    {
        ReadOnlySpan<nint> shape = [batch.TotalQueries, heads, cache.Options.KeyDim];
        var q = new ReadOnlyTensorSpan<float>(query, shape);
        var o = new TensorSpan<float>(output, shape);
        switch (cache)
        {
            case PagedKeyValueCache<float> floats: Attention.ForwardPaged(q, o, floats, layer, batch, options, execution: _execution); break;
            case PagedKeyValueCache<Half> halves: Attention.ForwardPaged(q, o, halves, layer, batch, options, execution: _execution); break;
            case PagedKeyValueCache<sbyte> codes: Attention.ForwardPaged(q, o, codes, layer, batch, options, execution: _execution); break;
            case PagedKeyValueCache<Float8E4M3> codes: Attention.ForwardPaged(q, o, codes, layer, batch, options, execution: _execution); break;
            case PagedKeyValueCache<Q8Block> blocks: Attention.ForwardPaged(q, o, blocks, layer, batch, options, execution: _execution); break;
            default: throw new ArgumentException($"{cache.GetType()} is no cache of the processor.", nameof(cache));
        }
    }

    public void Dispose()
    {
    }
}
