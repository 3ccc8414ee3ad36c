using System.Collections.Immutable;
using FusedAttention.Devices;
using FusedAttention.Metal.Launching;
using FusedAttention.Metal.Memory;
using FusedAttention.Metal.SelfTest;

namespace FusedAttention;

/// <summary>
/// An Apple GPU. It has one queue: work is done in the order in which calls were made, on whatever threads, and each piece sees what the ones before it wrote.
/// </summary>
/// <remarks>
/// <para>Calls return when their work is queued. Whoever touches a tensor's elements waits for the work that uses that tensor (<see cref="MetalTensor{T}"/> says when);
/// <see cref="Synchronize"/> waits for everything. <see cref="Batch"/> puts many calls into one command buffer.</para>
/// <para>A failure on the GPU is thrown by what waits next, as <see cref="MetalException"/>. All methods may be called from any number of threads at once. Devices live as long as the process.</para>
/// </remarks>
public sealed unsafe partial class MetalDevice
{
    private const int EmptyTensorBytes = 16;

    /// <summary>From here on a tensor is kept where the GPU reaches it while nothing runs, as caches are: bringing back 64 MB takes milliseconds.</summary>
    private const long ResidentTensorBytes = 64 << 20;

    private readonly IMetalRuntime _runtime;
    private readonly Lock _submitting = new();
    private readonly Lock _failures = new();
    private readonly TransientPool _transient;
    private readonly RetiredMemory _retired;
    private MetalDeviceDescription? _examined;
    private MetalException? _untold;
    private long _submitted;

    /// <param name="runtime">Runs the launches: Metal, or in tests an emulator. Taken over.</param>
    internal MetalDevice(IMetalRuntime runtime)
    {
        _runtime = runtime;
        _transient = new(runtime);
        _retired = new(runtime);
        FunctionTables = new(Copy);
        if (runtime.Device.HasKnownLaneMap) _examined = runtime.Device;
    }

    /// <summary>As the system calls it, <c>Apple M4 Pro</c>.</summary>
    public string Name => _runtime.Device.Name;

    /// <summary>The number of Apple's GPU family: 7 for M1, 8 for M2, 9 for M3 and M4, 10 for M5.</summary>
    public int AppleFamily => _runtime.Device.AppleFamily;

    /// <summary>The longest tensor that one allocation can hold, in bytes.</summary>
    public long MaxTensorBytes => _runtime.Device.MaxBufferLength;

    /// <summary>With what only running something tells: the first to ask waits for the self-test, and so does the next one where that failed.</summary>
    /// <exception cref="MetalException">The self-test could not be run.</exception>
    internal MetalDeviceDescription Description => Volatile.Read(ref _examined) ?? Examine();

    /// <summary>The same without running anything: where nobody has asked yet, a device with the layout of simdgroup matrices that all known ones have.</summary>
    internal MetalDeviceDescription ExpectedDescription => Volatile.Read(ref _examined) ?? _runtime.Device with { HasKnownLaneMap = true };

    /// <summary>Whether the self-test has been run, or is not needed.</summary>
    internal bool IsExamined => Volatile.Read(ref _examined) is not null;

    /// <summary>The number of the last submission known to have ended.</summary>
    internal long Completed => _runtime.Completed;

    /// <summary>What a command buffer may cost.</summary>
    internal double SubmissionBudget => _runtime.SubmissionBudget;

    internal TransientPool Transient => _transient;

    internal RetiredMemory Retired => _retired;

    /// <summary>Tables that the functions of calls look up.</summary>
    internal TableCopies<SharedMemory> FunctionTables { get; }

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

    /// <summary>Compiles a kernel unless that has been done.</summary>
    internal KernelResources Compile(KernelFunction function) => _runtime.Prepare(function);

    /// <summary>Compiles kernels unless that has been done.</summary>
    internal void Prepare(ImmutableArray<KernelFunction> functions)
    {
        foreach (KernelFunction function in functions) _runtime.Prepare(function);
    }

    /// <summary>Queues the command buffers of one call.</summary>
    /// <param name="launches">What they have; taken over until this returns.</param>
    /// <param name="transient">What the call took of transient memory.</param>
    /// <param name="uses">What it uses beside that; held by the caller.</param>
    internal void Submit(LaunchList launches, TransientPool.Rental transient, ReadOnlySpan<MemoryUse> uses)
    {
        _retired.Collect();

        // Compiling takes long and may fail: before the queue is taken, and before anything is on it.
        for (int i = 0; i < launches.Count; i++) Prepare(launches[i]);
        bool isBatched = IsBatching;
        lock (_submitting)
        {
            for (int i = 0; i < launches.Count; i++) Submit(launches[i], staysOpen: isBatched && i == launches.Count - 1, transient, uses);
        }
    }

    /// <summary>Waits until a submission has ended.</summary>
    /// <exception cref="MetalException">It failed, or one before it that nobody was told of.</exception>
    internal void Wait(long submission)
    {
        CommitUpTo(submission);
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
        CommitUpTo(submission);
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
        FunctionTables.Dispose();
        _retired.Collect();
        _transient.Close();
        _runtime.Dispose();
    }

    /// <summary>Shared memory for tensors and caches.</summary>
    /// <exception cref="MetalException">The device does not give it.</exception>
    /// <param name="bytes">Its length.</param>
    /// <param name="isCache">Whether it will be used as long as a conversation lasts, with pauses.</param>
    internal SharedMemory AllocateMemory(long bytes, bool isCache = false)
    {
        if (bytes > MaxTensorBytes) throw new MetalException($"{bytes} bytes are more than one allocation on {this} can have: {MaxTensorBytes}.");
        _retired.Collect();

        // An empty tensor has memory too: a buffer needs something to be bound to.
        var memory = new SharedMemory(this, _runtime.Allocate(Math.Max(EmptyTensorBytes, bytes)), isCallers: false);
        try
        {
            if (isCache || bytes >= ResidentTensorBytes) _runtime.KeepResident(memory.Memory);
            return memory;
        }
        catch
        {
            memory.Dispose();
            throw;
        }
    }

    /// <summary>Queues one launch that takes no transient memory.</summary>
    internal void Submit(KernelLaunch launch, ReadOnlySpan<MemoryUse> uses)
    {
        using TransientPool.Rental none = _transient.Rent();
        Submit(launch, none, uses);
    }

    /// <summary>Queues one launch that somebody has made for this.</summary>
    internal void Submit(KernelLaunch launch, TransientPool.Rental transient, ReadOnlySpan<MemoryUse> uses)
    {
        _retired.Collect();
        Prepare([launch]);
        lock (_submitting) Submit([launch], staysOpen: false, transient, uses);
    }

    /// <summary>Memory that nothing under way uses, so the processor may write it at once.</summary>
    private SharedMemory Copy(ScoreTable table)
    {
        ReadOnlySpan<float> entries = table.Values;
        SharedMemory copy = AllocateMemory(entries.Length * (long)sizeof(float));
        entries.CopyTo(new Span<float>(copy.Pointer, entries.Length));
        return copy;
    }

    private void Prepare(ReadOnlySpan<KernelLaunch> launches)
    {
        foreach (KernelLaunch launch in launches) _runtime.Prepare(launch.Function);
    }

    /// <summary>The self-test of the layout of simdgroup matrices. What it throws is not remembered.</summary>
    private MetalDeviceDescription Examine()
    {
        lock (_submitting)
        {
            if (_examined is { } known) return known;
            CommitOpen();
            bool isKnown = LaneMapTest.Run(_runtime, out long submission);
            _submitted = submission;
            MetalDeviceDescription examined = _runtime.Device with { HasKnownLaneMap = isKnown };
            Volatile.Write(ref _examined, examined);
            return examined;
        }
    }
}
