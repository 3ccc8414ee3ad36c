namespace FusedAttention;

/// <summary>
/// A stretch of code whose calls share command buffers: made by <see cref="MetalDevice.Batch"/>, over when it is disposed. It stays on its thread: the compiler keeps it out of fields, lambdas and what lies behind an <c>await</c>.
/// </summary>
/// <example>
/// <code>
/// using (device.Batch())
/// {
///     for (int layer = 0; layer &lt; layers; layer++)
///     {
///         cache.Write(layer, batch, keys[layer], values[layer]);
///         MetalAttention.ForwardPaged(queries[layer], outputs[layer], cache, layer, batch);
///     }
/// }
/// </code>
/// </example>
public readonly ref struct MetalBatch
{
    private readonly MetalDevice? _device;
    private readonly int _depth;

    internal MetalBatch(MetalDevice device, int depth)
    {
        _device = device;
        _depth = depth;
    }

    /// <summary>Hands the calls so far to the GPU, unless the batch lies within another one of the thread's. Does not wait, and does nothing the second time.</summary>
    public void Dispose() => _device?.EndBatch(_depth);
}
