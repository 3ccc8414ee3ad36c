using System.Collections.Immutable;
using System.Globalization;
using FusedAttention.Devices;
using FusedAttention.Metal.Launching;

namespace FusedAttention.Metal.Emulation;

/// <summary>
/// A device that is a process of this machine: runs the launches that <c>MetalRuntime</c> would encode. Each runs once in every order of <see cref="Orders"/>, from
/// the same inputs, and the bits written must be the same. Nothing is queued: a submission has ended when <see cref="Submit"/> or <see cref="Commit()"/> returns, and throws there.
/// </summary>
internal sealed class EmulatedRuntime(EmulatorFlavour flavour = EmulatorFlavour.Plain) : IMetalRuntime
{
    private readonly Lock _lock = new();
    private string? _folder;
    private long _submissions;
    private readonly List<KernelLaunch> _open = [];
    private long _files;

    /// <summary>Orders of lanes, simdgroups and threadgroups; the first one's results are kept.</summary>
    public ImmutableArray<string> Orders { get; init; } = ["forward", "reverse", "random"];

    /// <summary>Of the random order.</summary>
    public ulong Seed { get; init; } = 20260117;

    /// <summary>For kernels that a test brings along; the library's own otherwise.</summary>
    public Func<KernelFunction, string> Source { get; init; } = KernelSource.Compose;

    /// <summary>A launch that takes longer is stopped.</summary>
    public int TimeoutSeconds { get; init; } = 240;

    public MetalDeviceDescription Device { get; init; } =
        new("Emulated M1", AppleFamily: 7, MaxThreadgroupMemory: LaunchCheck.ThreadgroupMemoryLimit, MaxBufferLength: int.MaxValue, HasKnownLaneMap: true);

    public long Completed => Interlocked.Read(ref _submissions);

    /// <summary>Of all launches so far, compilation not included.</summary>
    public TimeSpan Elapsed { get; private set; }

    public DeviceMemory Allocate(long bytes) => EmulatedMemory.Allocate(bytes);

    public DeviceMemory Wrap(nint pointer, long bytes) => EmulatedMemory.Wrap(pointer, bytes);

    public KernelResources Prepare(KernelFunction function)
    {
        EmulatorLibrary library = Library(function);
        return new(library.Kernel(function.Name).MaxThreads ?? 1024, library.ThreadgroupBytes(function.Name));
    }

    public EmulatorLibrary Library(KernelFunction function) => EmulatorBuild.Get(Source(function), flavour);

    public double SubmissionBudget { get; init; } = CommandBufferBudget.First;

    /// <summary>Launches of an open submission run when it is committed, as a device would: what they read must stay until then.</summary>
    public long Submit(ReadOnlySpan<KernelLaunch> launches, bool staysOpen = false)
    {
        lock (_lock)
        {
            if (!staysOpen)
            {
                Commit(launches);
                return _submissions;
            }

            foreach (KernelLaunch launch in launches) _open.Add(launch with { Buffers = [.. launch.Buffers], Parameters = [.. launch.Parameters] });
            return _submissions + 1;
        }
    }

    public void Commit()
    {
        lock (_lock)
        {
            if (_open.Count > 0) Commit([]);
        }
    }

    public void Wait(long submission) => ArgumentOutOfRangeException.ThrowIfGreaterThan(submission, Completed);

    public void Dispose()
    {
        if (_folder is not null && Directory.Exists(_folder)) Directory.Delete(_folder, recursive: true);
    }

    private void Commit(ReadOnlySpan<KernelLaunch> last)
    {
        foreach (KernelLaunch launch in _open) Run(launch);
        _open.Clear();
        foreach (KernelLaunch launch in last) Run(launch);
        Interlocked.Increment(ref _submissions);
    }

    private void Run(KernelLaunch launch)
    {
        EmulatorLibrary library = Library(launch.Function);
        LaunchCheck.Check(launch, library);
        _folder ??= Directory.CreateTempSubdirectory("fused-attention-emulator-").FullName;
        string name = Path.Combine(_folder, (++_files).ToString(CultureInfo.InvariantCulture));
        try
        {
            EmulatedMemory[] written = LaunchFile.Write(name + ".launch", launch, library);
            long start = System.Diagnostics.Stopwatch.GetTimestamp();
            (int exitCode, string output) = EmulatorToolchain.Run(
                library.Executable, folder: null, [name + ".launch", name + ".result", Seed.ToString(CultureInfo.InvariantCulture), .. Orders], TimeoutSeconds);
            Elapsed += System.Diagnostics.Stopwatch.GetElapsedTime(start);
            if (exitCode != 0) throw new MetalEmulationException($"{launch.Function.Name} in the {flavour} emulator ended with exit code {exitCode}:\n{output}\n{launch.Function.LibraryKey}\n{library.Folder}");
            LaunchFile.ReadResults(name + ".result", written);
        }
        finally
        {
            File.Delete(name + ".launch");
            File.Delete(name + ".result");
        }
    }
}
