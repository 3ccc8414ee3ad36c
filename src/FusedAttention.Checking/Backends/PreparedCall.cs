using FusedAttention.Checking.Formats;
using FusedAttention.Checking.Problems;

namespace FusedAttention.Checking.Backends;

/// <summary>A call through a backend's public API with its memory, ready to be made any number of times.</summary>
public abstract class PreparedCall : IDisposable
{
    protected PreparedCall(CallInputs call)
    {
        Call = call;
        OutputBytes = ByteCount(call.OutputShape, call.Query.ElementType);
        LogSumExpBytes = ByteCount(call.LogSumExpShape, TensorElementType.Float32);
    }

    public CallInputs Call { get; }

    /// <summary>The output as the last call left it.</summary>
    public abstract LoadedTensor Output { get; }

    /// <summary>The log-sum-exp as the last call with one left it.</summary>
    public abstract LoadedTensor LogSumExp { get; }

    protected long OutputBytes { get; }

    protected long LogSumExpBytes { get; }

    /// <summary>Fills both outputs with NaN (all bits set, in every type), so that an element nobody writes cannot pass for a result.</summary>
    public abstract void Poison();

    /// <summary>Makes the call; its results are there on return.</summary>
    public abstract void Invoke(AttentionOptions options, RunOptions run);

    /// <summary>Makes the call some times, one after the other; returns the time of all of them by <see cref="Backend.Clock"/>.</summary>
    public abstract TimeSpan Time(AttentionOptions options, RunOptions run, int calls);

    /// <summary>Gives back memory of a device.</summary>
    public void Dispose()
    {
        Dispose(disposing: true);
        GC.SuppressFinalize(this);
    }

    protected virtual void Dispose(bool disposing)
    {
    }

    protected static UsageException WrongBias(LoadedTensor bias) => new($"The bias {bias} must be of F32, F16 or BF16.");

    protected LoadedTensor AsOutput(byte[] bytes) => new("o", Call.Query.ElementType, [.. Call.OutputShape], bytes);

    protected LoadedTensor AsLogSumExp(byte[] bytes) => new("lse", TensorElementType.Float32, [.. Call.LogSumExpShape], bytes);

    private static long ByteCount(long[] shape, TensorElementType type)
    {
        long bytes = (LoadedTensor.TryCountElements(shape) ?? long.MaxValue / 8) * type.SizeInBytes();
        return bytes <= TensorFile.MaxTensorBytes ? bytes : throw new UsageException($"An output of {LoadedTensor.Describe(shape)} passes {TensorFile.MaxTensorBytes} bytes.");
    }
}
