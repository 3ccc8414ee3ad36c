using System.Collections.Immutable;
using System.Runtime.InteropServices;
using FusedAttention.Cuda.Launching;

namespace FusedAttention.Cuda.Driver;

/// <summary>The devices of the system that the kernels run on, in the driver's order; or why there is none.</summary>
/// <param name="Runtimes">Devices. None has a context yet.</param>
/// <param name="Reason">Null if there is a device.</param>
internal sealed record SystemDevices(ImmutableArray<CudaRuntime> Runtimes, string? Reason)
{
    /// <summary>Ampere: cp.async and mma of bfloat16.</summary>
    private const int OldestMajor = 8;

    /// <summary>CUDA 11.4, the first that takes the kernels' text.</summary>
    private const int OldestVersion = 11040;

    /// <summary>Looks for the driver, which comes with the GPU's, not with a toolkit.</summary>
    public static SystemDevices Find()
    {
        string? library = OperatingSystem.IsLinux() ? "libcuda.so.1" : OperatingSystem.IsWindows() ? "nvcuda.dll" : null;
        if (library is null || !Environment.Is64BitProcess)
            return new([], $"The NVIDIA driver is for Linux and Windows, in 64-bit processes; this is {RuntimeInformation.OSDescription}, {RuntimeInformation.ProcessArchitecture}.");
        return NativeLibrary.TryLoad(library, out nint handle)
            ? Find(name => NativeLibrary.TryGetExport(handle, name, out nint address) ? address : 0)
            : new([], $"No NVIDIA driver: {library} is not found.");
    }

    /// <param name="find">The address of a function of the driver by its name; 0 if it has none.</param>
    public static SystemDevices Find(Func<string, nint> find)
    {
        try
        {
            var driver = new CudaDriver(find);
            driver.Init();
            int version = driver.Version;
            if (version < OldestVersion) return new([], $"The NVIDIA driver knows CUDA {Text(version)}; {Text(OldestVersion)} or later is needed.");
            var found = ImmutableArray.CreateBuilder<CudaRuntime>();
            string? reason = null;
            int count = driver.DeviceCount;
            for (int ordinal = 0; ordinal < count; ordinal++)
            {
                int device = driver.DeviceGet(ordinal);
                CudaDeviceDescription description = Describe(driver, device, ordinal, version);
                if (description.Major >= OldestMajor) found.Add(new(driver, device, description));
                else reason ??= $"{description.Name} has compute capability {description.Major}.{description.Minor}; {OldestMajor}.0 (Ampere) or later is needed.";
            }

            return found.Count > 0 ? new(found.ToImmutable(), null) : new([], reason ?? "The NVIDIA driver has no device.");
        }
        catch (CudaException failure)
        {
            return new([], failure.Message);
        }
    }

    private static CudaDeviceDescription Describe(CudaDriver driver, int device, int ordinal, int version) => new(
        ordinal,
        driver.DeviceName(device),
        driver.DeviceAttribute(device, CudaDriver.AttributeComputeCapabilityMajor),
        driver.DeviceAttribute(device, CudaDriver.AttributeComputeCapabilityMinor),
        driver.DeviceAttribute(device, CudaDriver.AttributeMultiprocessorCount),
        driver.DeviceAttribute(device, CudaDriver.AttributeMaxSharedMemoryPerBlockOptin),
        driver.DeviceTotalMemory(device),
        version)
    {
        L2Bytes = driver.DeviceAttribute(device, CudaDriver.AttributeL2CacheSize),
    };

    private static string Text(int version) => $"{version / 1000}.{version % 1000 / 10}";
}
