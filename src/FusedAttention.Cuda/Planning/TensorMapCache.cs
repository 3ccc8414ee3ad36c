using FusedAttention.Cuda.Kernels;
using FusedAttention.Cuda.Launching;

namespace FusedAttention.Cuda.Planning;

/// <summary>A device's maps that were encoded, by what they are of: the layers of a model come round again, each with its own memory. Allocates nothing after its first use.</summary>
/// <param name="runtime">Encodes them.</param>
internal sealed class TensorMapCache(ICudaRuntime runtime)
{
    /// <summary>Three maps a call, some dozens of layers.</summary>
    private const int Places = 256;

    /// <summary>Places that one tensor may have: where its hash points, and behind that.</summary>
    private const int Tries = 4;

    private readonly Lock _gate = new();
    private Entry[]? _entries;

    /// <summary>The map of a tensor.</summary>
    /// <param name="shape">The tensor.</param>
    /// <param name="map">Receives it.</param>
    public void Get(in TensorMapShape shape, out TensorMap map)
    {
        lock (_gate) map = Find(shape);
    }

    private ref readonly TensorMap Find(in TensorMapShape shape)
    {
        _entries ??= new Entry[Places];
        uint first = (uint)shape.GetHashCode();
        for (uint i = 0; i < Tries; i++)
        {
            ref Entry entry = ref _entries[(first + i) % Places];
            if (entry.IsThere && entry.Shape == shape) return ref entry.Map;
            if (!entry.IsThere) return ref Fill(ref entry, shape);
        }

        return ref Fill(ref _entries[first % Places], shape);
    }

    private ref readonly TensorMap Fill(ref Entry entry, in TensorMapShape shape)
    {
        entry.IsThere = false;
        runtime.EncodeTensorMap(shape, entry.Map);
        (entry.Shape, entry.IsThere) = (shape, true);
        return ref entry.Map;
    }

    private struct Entry
    {
        public TensorMapShape Shape;
        public TensorMap Map;
        public bool IsThere;
    }
}
