using System.Runtime.InteropServices;
using System.Runtime.Versioning;
using FusedAttention.Metal.ObjectiveC;

namespace FusedAttention;

/// <content>The devices of this machine.</content>
public sealed unsafe partial class MetalDevice
{
    /// <summary>Metal 3.1, which the kernels are written in, came with macOS 14.</summary>
    private const int OldestMacOS = 14;

    private static readonly Lazy<(MetalDevice[] Devices, string? Reason)> OfThisMachine = new(Find);

    /// <summary>Whether this machine has a device that the kernels run on: an Apple GPU from M1 on, under macOS 14 or later.</summary>
    [SupportedOSPlatformGuard("macos")]
    public static bool IsSupported => UnsupportedReason is null;

    /// <summary>Why <see cref="IsSupported"/> is false; null if it is true.</summary>
    public static string? UnsupportedReason => OfThisMachine.Value.Reason;

    /// <summary>The device that the system prefers.</summary>
    /// <exception cref="PlatformNotSupportedException">There is none; the message has <see cref="UnsupportedReason"/>.</exception>
    [SupportedOSPlatform("macos")]
    public static MetalDevice Default => OfThisMachine.Value is { Reason: null, Devices: var devices }
        ? devices[0]
        : throw new PlatformNotSupportedException($"Metal is not available: {UnsupportedReason}");

    /// <summary>All devices of this machine that the kernels run on, <see cref="Default"/> first; none where Metal is not supported.</summary>
    [SupportedOSPlatform("macos")]
    public static IReadOnlyList<MetalDevice> All => OfThisMachine.Value.Devices;

    /// <summary>
    /// All devices of this machine, those too that the kernels were not made for: older families, and the paravirtual ones of virtual machines, which say that they are older than they are. For checking only.
    /// </summary>
    internal static (MetalDevice[] Devices, string? Reason) FindAny() => Find(takesAny: true);

    private static (MetalDevice[] Devices, string? Reason) Find() => Find(takesAny: false);

    private static (MetalDevice[] Devices, string? Reason) Find(bool takesAny)
    {
        if (!OperatingSystem.IsMacOS()) return ([], $"it needs macOS; this is {RuntimeInformation.OSDescription}.");
        if (!OperatingSystem.IsMacOSVersionAtLeast(OldestMacOS)) return ([], $"it needs macOS {OldestMacOS} or later; this is {RuntimeInformation.OSDescription}.");
        SystemDevices found = SystemDevices.Find(static library => NativeLibrary.TryLoad(library, out _), takesAny);
        return ([.. found.Runtimes.Select(static runtime => new MetalDevice(runtime))], found.Reason);
    }
}
