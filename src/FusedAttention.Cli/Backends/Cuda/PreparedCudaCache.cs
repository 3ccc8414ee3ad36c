using FusedAttention.Checking.Backends;
using FusedAttention.Checking.Formats;

namespace FusedAttention.Cli.Backends.Cuda;

/// <summary>A cache in memory of the device, which the GPU writes.</summary>
internal sealed class PreparedCudaCache<T>(CudaPagedKeyValueCache<T> cache) : PreparedCache<T>(cache)
    where T : unmanaged
{
    private readonly CudaPagedKeyValueCache<T> _cache = cache;

    public override LoadedTensor Keys => Pool("keys", _cache.GetKeys().ToArray(), _cache.Options.KeyDim);

    public override LoadedTensor Values => Pool("values", _cache.GetValues().ToArray(), _cache.Options.ValueDim);

    public override void Append(CacheSequence sequence, LoadedTensor keys, LoadedTensor values)
    {
        using CudaTensor<T> keyRows = _cache.Device.Copy<T>(keys), valueRows = _cache.Device.Copy<T>(values);
        _cache.Append(sequence, keyRows, valueRows);
    }
}
