using System.Collections.Immutable;
using FusedAttention.Metal.Launching;
using FusedAttention.Metal.Memory;
using FusedAttention.Metal.SelfTest;

namespace FusedAttention;

/// <summary>
/// An Apple GPU. It has one queue: work is done in the order in which calls were made, on whatever threads, and each piece sees what the ones before it wrote.
/// </summary>
/// <remarks>
/// <para>Calls return when their work is queued. Whoever touches a tensor's elements waits for the work that uses that tensor (<see cref="MetalTensor{T}"/> says when);
/// <see cref="Synchronize"/> waits for everything.</para>
/// <para>A failure on the GPU is thrown by what waits next, as <see cref="MetalException"/>. All methods may be called from any number of threads at once. Devices live as long as the process.</para>
/// </remarks>
public sealed unsafe partial class MetalDevice
{
    private const int EmptyTensorBytes = 16;

    private readonly IMetalRuntime _runtime;
    private readonly Lock _submitting = new();
    private readonly Lock _failures = new();
    private readonly TransientPool _transient;
    private readonly RetiredMemory _retired;
    private readonly Lazy<MetalDeviceDescription> _description;
    private MetalException? _untold;
    private long _submitted;

    /// <param name="runtime">Runs the launches: Metal, or in tests an emulator. Taken over.</param>
    internal MetalDevice(IMetalRuntime runtime)
    {
        _runtime = runtime;
        _transient = new(runtime);
        _retired = new(runtime);
        _description = new(Examine);
    }

    /// <summary>As the system calls it, <c>Apple M4 Pro</c>.</summary>
    public string Name => _runtime.Device.Name;

    /// <summary>The number of Apple's GPU family: 7 for M1, 8 for M2, 9 for M3 and M4, 10 for M5.</summary>
    public int AppleFamily => _runtime.Device.AppleFamily;

    /// <summary>The longest tensor that one allocation can hold, in bytes.</summary>
    public long MaxTensorBytes => _runtime.Device.MaxBufferLength;

    /// <summary>With what only running something tells.</summary>
    internal MetalDeviceDescription Description => _description.Value;

    /// <summary>The number of the last submission known to have ended.</summary>
    internal long Completed => _runtime.Completed;

    internal TransientPool Transient => _transient;

    internal RetiredMemory Retired => _retired;

    /// <summary>Waits until the GPU has done all that was queued so far.</summary>
    /// <exception cref="MetalException">Some of it failed.</exception>
    public void Synchronize()
    {
        long last;
        lock (_submitting) last = _submitted;
        Wait(last);
    }

    /// <summary>The device as text, for messages.</summary>
    public override string ToString() => $"{Name} (Apple GPU family {AppleFamily})";

    /// <summary>Compiles kernels unless that has been done.</summary>
    internal void Prepare(ImmutableArray<KernelFunction> functions)
    {
        foreach (KernelFunction function in functions) _runtime.Prepare(function);
    }

    /// <summary>Queues the command buffers of one call.</summary>
    /// <param name="submissions">In order; none of them empty.</param>
    /// <param name="transient">What the call took of transient memory.</param>
    /// <param name="uses">What it uses beside that; held by the caller.</param>
    internal void Submit(ImmutableArray<ImmutableArray<KernelLaunch>> submissions, TransientPool.Rental transient, ReadOnlySpan<MemoryUse> uses)
    {
        _retired.Collect();

        // Compiling takes long and may fail: before the queue is taken, and before anything is on it.
        foreach (ImmutableArray<KernelLaunch> launches in submissions)
            foreach (KernelLaunch launch in launches) _runtime.Prepare(launch.Function);
        lock (_submitting)
        {
            foreach (ImmutableArray<KernelLaunch> launches in submissions)
            {
                _submitted = _runtime.Submit(launches.AsSpan());
                transient.Use(_submitted);
                foreach (MemoryUse use in uses) use.Memory.Use(_submitted, use.IsWritten);
            }
        }
    }

    /// <summary>Waits until a submission has ended.</summary>
    /// <exception cref="MetalException">It failed, or one before it that nobody was told of.</exception>
    internal void Wait(long submission)
    {
        _runtime.Wait(submission);
        _retired.Collect();
        lock (_failures)
        {
            if (_untold is not { } failure) return;
            _untold = null;
            throw new MetalException(failure.Message, failure);
        }
    }

    /// <summary>Waits where nothing may be thrown; a failure is left for the next <see cref="Wait"/>.</summary>
    internal void WaitWithoutThrowing(long submission)
    {
        try
        {
            _runtime.Wait(submission);
        }
        catch (MetalException failure)
        {
            lock (_failures) _untold ??= failure;
        }
    }

    /// <summary>Gives memory back once a submission has ended.</summary>
    internal void Retire(DeviceMemory memory, long lastUse) => _retired.Add(memory, lastUse);

    /// <summary>Ends the device, for tests: those of the system live as long as the process.</summary>
    internal void Close()
    {
        lock (_submitting) WaitWithoutThrowing(_submitted);
        _retired.Collect();
        _transient.Close();
        _runtime.Dispose();
    }

    /// <summary>Shared memory for tensors and caches.</summary>
    /// <exception cref="MetalException">The device does not give it.</exception>
    internal SharedMemory AllocateMemory(long bytes)
    {
        if (bytes > MaxTensorBytes) throw new MetalException($"{bytes} bytes are more than one allocation on {this} can have: {MaxTensorBytes}.");
        _retired.Collect();

        // An empty tensor has memory too: a buffer needs something to be bound to.
        return new(this, _runtime.Allocate(Math.Max(EmptyTensorBytes, bytes)), isCallers: false);
    }

    /// <summary>The self-test of the layout of simdgroup matrices, unless the runtime knows it already.</summary>
    private MetalDeviceDescription Examine()
    {
        MetalDeviceDescription device = _runtime.Device;
        if (device.HasKnownLaneMap) return device;
        lock (_submitting)
        {
            bool isKnown = LaneMapTest.Run(_runtime, out long submission);
            _submitted = submission;
            return device with { HasKnownLaneMap = isKnown };
        }
    }
}
