namespace FusedAttention.Samples.TextGeneration.Devices;

/// <summary>Devices by the names that options have for them.</summary>
internal static class AttentionDevices
{
    public const string Names = "cpu or cuda";

    /// <summary>The device of a name; it is the caller's to dispose.</summary>
    /// <param name="option">What the name was given by, for messages.</param>
    /// <param name="backend">The name.</param>
    /// <param name="threads">Threads of the processor to use at most; -1 for one per processor.</param>
    /// <exception cref="ArgumentException">There is no such device, or this machine does not have it.</exception>
    public static IAttentionDevice Open(string option, string backend, int threads) => backend switch
    {
        "cpu" => new CpuDevice(threads),
        "cuda" => CudaDevice.IsSupported ? new CudaAttentionDevice(CudaDevice.Default) : throw new ArgumentException($"{option} cuda is not available here: {CudaDevice.UnsupportedReason}"),
        _ => throw new ArgumentException($"{option} '{backend}' is not {Names}."),
    };
}
