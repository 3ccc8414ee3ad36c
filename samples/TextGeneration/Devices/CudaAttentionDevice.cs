namespace FusedAttention.Samples.TextGeneration.Devices;

/// <summary>
/// An NVIDIA GPU. Rows of queries are copied to it and rows of results back, in each layer of each step, and the step waits for them: with a model this small that is what it costs. A program for speed
/// keeps its activations on the device, and nothing here would change but the copies.
/// </summary>
internal sealed class CudaAttentionDevice(CudaDevice device) : IAttentionDevice
{
    private CudaTensor<float>? _query;
    private CudaTensor<float>? _output;

    public string Name => device.ToString();

    public KeyValueCache CreateCache<T>(PagedKeyValueCacheOptions options)
        where T : unmanaged
        => new CudaPagedKeyValueCache<T>(device, options);

    public void Attend(ReadOnlySpan<float> query, Span<float> output, int heads, KeyValueCache cache, int layer, PagedBatch batch, AttentionOptions options)
    {
        CudaTensor<float> q = Rows(ref _query, batch.TotalQueries, heads, cache.Options.KeyDim), o = Rows(ref _output, batch.TotalQueries, heads, cache.Options.ValueDim);
        q.CopyFrom(query);
        switch (cache)
        {
            case CudaPagedKeyValueCache<float> floats: CudaAttention.ForwardPaged(q, o, floats, layer, batch, options); break;
            case CudaPagedKeyValueCache<Half> halves: CudaAttention.ForwardPaged(q, o, halves, layer, batch, options); break;
            case CudaPagedKeyValueCache<sbyte> codes: CudaAttention.ForwardPaged(q, o, codes, layer, batch, options); break;
            case CudaPagedKeyValueCache<Float8E4M3> codes: CudaAttention.ForwardPaged(q, o, codes, layer, batch, options); break;
            default: throw new ArgumentException($"{cache.GetType()} is no cache of {device}.", nameof(cache));
        }

        o.CopyTo(output);
    }

    public void Dispose()
    {
        _query?.Dispose();
        _output?.Dispose();
    }

    /// <summary>The first rows of a tensor that is kept from step to step and grows.</summary>
    private CudaTensor<float> Rows(ref CudaTensor<float>? kept, int rows, int heads, int dim)
    {
        if (kept is null || kept.Lengths[0] < rows || kept.Lengths[1] != heads || kept.Lengths[2] != dim)
        {
            kept?.Dispose();
            kept = device.Allocate<float>(rows, heads, dim);
        }

        return kept.Slice(..rows, .., ..);
    }
}
