using FusedAttention.Cuda.Driver;

namespace FusedAttention;

/// <content>The devices of this machine.</content>
public sealed partial class CudaDevice
{
    private const string KernelFolderVariable = "FUSEDATTENTION_CUDA_KERNELS";

    private static readonly Lazy<(CudaDevice[] Devices, string? Reason)> OfThisMachine = new(Find);

    /// <summary>Whether this machine has a device that the kernels run on: an NVIDIA GPU of compute capability 8.0 or later, with a driver of CUDA 11.4 or later.</summary>
    public static bool IsSupported => UnsupportedReason is null;

    /// <summary>Why <see cref="IsSupported"/> is false; null if it is true.</summary>
    public static string? UnsupportedReason => OfThisMachine.Value.Reason;

    /// <summary>The first device of the driver (<c>CUDA_VISIBLE_DEVICES</c> says which that is) that the kernels run on.</summary>
    /// <exception cref="CudaException">There is none; the message has <see cref="UnsupportedReason"/>.</exception>
    public static CudaDevice Default => OfThisMachine.Value is { Reason: null, Devices: var devices }
        ? devices[0]
        : throw new CudaException($"CUDA is not available. {UnsupportedReason}");

    /// <summary>All devices of this machine that the kernels run on, <see cref="Default"/> first; none where CUDA is not supported. What is not used gets no context, which would take memory.</summary>
    public static IReadOnlyList<CudaDevice> All => OfThisMachine.Value.Devices;

    private static (CudaDevice[] Devices, string? Reason) Find()
    {
        SystemDevices found = SystemDevices.Find();
        string? folder = Environment.GetEnvironmentVariable(KernelFolderVariable) is { Length: > 0 } named ? named : null;
        return ([.. found.Runtimes.Select(runtime => new CudaDevice(runtime) { KernelFolder = folder })], found.Reason);
    }
}
