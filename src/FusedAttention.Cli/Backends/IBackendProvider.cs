using FusedAttention.Checking.Measurement;

namespace FusedAttention.Cli.Backends;

/// <summary>A backend as the tool knows it: whether it is there, and all that commands want of it. Each has a folder of its own, and a line in <c>RegisteredBackends</c>.</summary>
internal interface IBackendProvider
{
    /// <summary>As in <c>--backend</c>.</summary>
    string Name { get; }

    /// <summary>As in a sentence.</summary>
    string Title { get; }

    /// <summary>What it runs on, in a word or two of help; null if the name says it.</summary>
    string? Hardware { get; }

    /// <summary>Whether it is the processor: it is always there, and options about threads, instruction sets and ceilings speak of it alone.</summary>
    bool IsHost { get; }

    /// <summary>What there is to run on, the preferred one first. Nothing is asked of the system before this or <see cref="WhyNone"/> is asked for.</summary>
    IReadOnlyList<BackendDevice> Devices { get; }

    /// <summary>Devices of the same kind that the kernels were not made for, and <see cref="Devices"/>: for finding out whether they run there.</summary>
    IReadOnlyList<BackendDevice> AnyDevices => Devices;

    /// <summary>Why there is no device; null if there is one.</summary>
    string? WhyNone { get; }

    /// <summary>Shapes that <c>bench</c> goes through when it is given none; empty for a backend whose <c>bench</c> has one default shape.</summary>
    IReadOnlyList<TimedShape> TimedShapes { get; }

    /// <summary>Where the targets of <see cref="TimedShapes"/> come from; null without targets.</summary>
    string? TargetNote { get; }

    /// <summary>The text of its kernels, for a command <c>NAME-source</c>; null for a backend without one.</summary>
    IKernelSource? Source => null;

    /// <summary>What <c>info</c> says of it.</summary>
    BackendInfo Info();

    /// <summary>Whether an exception is the backend's own word about a device that refused or failed, and no mistake in a program.</summary>
    bool IsDeviceFailure(Exception exception);
}
