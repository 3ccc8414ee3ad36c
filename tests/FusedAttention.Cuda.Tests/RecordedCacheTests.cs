using FusedAttention.Cuda.Tests.Fakes;
using Xunit;

namespace FusedAttention.Cuda.Tests;

/// <summary>A device whose one kernel, which writes caches, is the host's, and what is written to its caches.</summary>
public abstract class RecordedCacheTests : IDisposable
{
    private protected const int Heads = 2, KeyDim = 3, ValueDim = 2;

    private protected RecordedCacheTests() => Device = new(Runtime);

    private protected RecordingRuntime Runtime { get; } = new() { OnLaunch = CacheKernels.Run };

    private protected CudaDevice Device { get; }

    private protected StreamOperation[] Operations => [.. Runtime.Streams.SelectMany(static stream => stream.Operations)];

    private protected int Launches => Operations.Count(static operation => operation.Action == StreamAction.Launch);

    public void Dispose()
    {
        Device.Close();
        GC.SuppressFinalize(this);
    }

    private protected static PagedKeyValueCacheOptions Options(int layers = 1) =>
        new() { Blocks = 8, BlockSize = 4, KeyValueHeads = Heads, KeyDim = KeyDim, ValueDim = ValueDim, Layers = layers };

    private protected static float[] Rows(int tokens, int dim, int first) => [.. Enumerable.Range(first, tokens * Heads * dim).Select(static i => (float)i)];

    private protected CudaTensor<float> Tensor(int tokens, int dim, int first)
    {
        CudaTensor<float> tensor = Device.Allocate<float>(tokens, Heads, dim);
        tensor.CopyFrom(Rows(tokens, dim, first));
        return tensor;
    }

    private protected static MemoryStream Saved(KeyValueCache cache, CacheSequence sequence)
    {
        var stream = new MemoryStream();
        cache.Save(sequence, stream);
        stream.Position = 0;
        return stream;
    }

    private protected static void Refused(string parameter, Action call, string inMessage) =>
        Assert.Contains(inMessage, Assert.Throws<ArgumentException>(parameter, call).Message, StringComparison.Ordinal);
}
