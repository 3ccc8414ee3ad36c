using FusedAttention.Cuda.Launching;
using FusedAttention.Cuda.Memory;

namespace FusedAttention;

/// <content>Work that is no call of the library's, and how long the device takes: for who measures it.</content>
public sealed partial class CudaStream
{
    /// <summary>What measures how long the device works on this stream; null where the runtime does not know.</summary>
    /// <exception cref="CudaException">The driver makes no events.</exception>
    internal IStreamTimer? CreateTimer() => (Queue as ITimedStream)?.CreateTimer();

    /// <summary>Whether <see cref="CreateTimer"/> makes one.</summary>
    internal bool HasTimer => Queue is ITimedStream;

    /// <summary>Sets all bytes of a dense tensor to zero.</summary>
    internal void Clear(CudaTensor<byte> tensor)
    {
        MemoryUse use = new(tensor.Memory, IsWritten: true);
        use.Memory.Hold();
        try
        {
            using Submission work = new(this, new ReadOnlySpan<MemoryUse>(in use));
            work.Begin();
            work.Clear(tensor.Place, tensor.FlattenedLength);
            work.End();
        }
        finally
        {
            use.Memory.DangerousRelease();
        }
    }

    /// <summary>Launches a kernel that is loaded, which uses one tensor.</summary>
    internal void Launch(in KernelLaunch launch, CudaTensor tensor)
    {
        MemoryUse use = new(tensor.Memory, IsWritten: true);
        use.Memory.Hold();
        try
        {
            using Submission work = new(this, new ReadOnlySpan<MemoryUse>(in use));
            work.Begin();
            work.Launch(launch);
            work.End();
        }
        finally
        {
            use.Memory.DangerousRelease();
        }
    }
}
