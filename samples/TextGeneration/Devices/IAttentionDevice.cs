namespace FusedAttention.Samples.TextGeneration.Devices;

/// <summary>Where keys and values live and attention runs. Everything else of the model runs on the processor, whose activations go in and out.</summary>
internal interface IAttentionDevice : IDisposable
{
    /// <summary>What it is, in a few words.</summary>
    string Name { get; }

    /// <summary>A cache in the device's memory.</summary>
    /// <typeparam name="T">Element type of keys and values.</typeparam>
    /// <exception cref="NotSupportedException">The device's caches do not hold it; the message says what they do.</exception>
    KeyValueCache CreateCache<T>(PagedKeyValueCacheOptions options)
        where T : unmanaged;

    /// <summary>Attention of a batch over one layer of a cache that this device made; the result is there on return.</summary>
    /// <param name="query">[rows, heads, dim].</param>
    /// <param name="output">Laid out as <paramref name="query"/>.</param>
    /// <param name="heads">Query heads.</param>
    /// <param name="cache">The cache.</param>
    /// <param name="layer">Which layer.</param>
    /// <param name="batch">Whose rows these are.</param>
    /// <param name="options">Mask and slopes.</param>
    void Attend(ReadOnlySpan<float> query, Span<float> output, int heads, KeyValueCache cache, int layer, PagedBatch batch, AttentionOptions options);
}
