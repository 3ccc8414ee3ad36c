using FusedAttention.Cuda.Kernels;
using FusedAttention.Cuda.Launching;

namespace FusedAttention.Cuda.Planning;

/// <summary>Maps that were encoded, by what they are of: the layers of a model come round again, each with its own memory. For one thread at a time; allocates nothing after its first use.</summary>
internal sealed class TensorMapCache
{
    /// <summary>Three maps a call, some dozens of layers.</summary>
    private const int Places = 256;

    /// <summary>Places that one tensor may have: where its hash points, and behind that.</summary>
    private const int Tries = 4;

    private Entry[]? _entries;

    /// <summary>The map of a tensor; valid until another one is asked for.</summary>
    public ref readonly TensorMap Get(ICudaRuntime runtime, in TensorMapShape shape)
    {
        _entries ??= new Entry[Places];
        uint first = (uint)shape.GetHashCode();
        for (uint i = 0; i < Tries; i++)
        {
            ref Entry entry = ref _entries[(first + i) % Places];
            if (entry.IsThere && entry.Shape == shape) return ref entry.Map;
            if (!entry.IsThere) return ref Fill(ref entry, runtime, shape);
        }

        return ref Fill(ref _entries[first % Places], runtime, shape);
    }

    private static ref readonly TensorMap Fill(ref Entry entry, ICudaRuntime runtime, in TensorMapShape shape)
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
