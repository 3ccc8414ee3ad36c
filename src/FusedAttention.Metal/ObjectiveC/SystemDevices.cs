using System.Collections.Immutable;
using FusedAttention.Metal.Launching;

namespace FusedAttention.Metal.ObjectiveC;

/// <summary>The devices of the system that the kernels run on, the preferred one first; or why there is none.</summary>
/// <param name="Runtimes">Devices.</param>
/// <param name="Reason">Null if there is a device.</param>
internal sealed record SystemDevices(ImmutableArray<MetalRuntime> Runtimes, string? Reason)
{
    /// <summary>Simdgroup matrices came with Apple7, the M1; Apple's processors before it and the GPUs of Intel Macs do not have them.</summary>
    private const int OldestFamily = 7;

    /// <param name="load">Loads a library by its full name, and says whether it is there.</param>
    /// <param name="takesAny">Takes devices that the kernels were not made for as well: whether they run there is for whoever asks to find out.</param>
    public static SystemDevices Find(Func<string, bool> load, bool takesAny = false)
    {
        foreach (string library in (ReadOnlySpan<string>)[Libraries.ObjectiveC, Libraries.CoreGraphics, Libraries.Metal])
        {
            // CoreGraphics before Metal: without it a program of the command line gets nil for the default device.
            if (!load(library)) return new([], $"{library} cannot be loaded.");
        }

        using AutoreleasePool pool = AutoreleasePool.Open();
        var found = ImmutableArray.CreateBuilder<MetalRuntime>();
        string? reason = null;
        foreach (NativeObject device in All())
        {
            var runtime = new MetalRuntime(device);
            if (takesAny || Objection(runtime) is not { } objection)
            {
                found.Add(runtime);
                continue;
            }

            reason ??= objection;
            runtime.Dispose();
        }

        return found.Count > 0 ? new(found.ToImmutable(), null) : new([], reason ?? "The system has no Metal device.");
    }

    private static string? Objection(MetalRuntime runtime)
    {
        MetalDeviceDescription device = runtime.Device;
        if (device.AppleFamily < OldestFamily) return $"{device.Name} is of no Apple GPU family from {OldestFamily} (M1) on.";
        return runtime.HasUnifiedMemory ? null : $"{device.Name} does not share its memory with the processor.";
    }

    /// <summary>Each device once: the default one, which may be missing in a session without a display, and those of the list.</summary>
    private static List<NativeObject> All()
    {
        var devices = new List<NativeObject>();
        var known = new HashSet<nint>();
        nint preferred = Native.CreateSystemDefaultDevice();
        if (preferred != 0)
        {
            known.Add(Messages.Get(preferred, Selectors.RegistryId));
            devices.Add(NativeObject.Own(preferred, "the default device"));
        }

        nint copied = Native.CopyAllDevices();
        if (copied == 0) return devices;
        using var list = NativeObject.Own(copied, "the list of devices");
        using NativeObject.Lease array = list.Use();
        nint count = Messages.Get(array.Id, Selectors.Count);
        for (nint i = 0; i < count; i++)
        {
            nint device = Messages.Get(array.Id, Selectors.ObjectAtIndex, i);
            if (device != 0 && known.Add(Messages.Get(device, Selectors.RegistryId))) devices.Add(NativeObject.Share(device, "a device of the list"));
        }

        return devices;
    }
}
