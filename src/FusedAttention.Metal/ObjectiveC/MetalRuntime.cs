using FusedAttention.Devices;
using FusedAttention.Metal.Launching;

namespace FusedAttention.Metal.ObjectiveC;

/// <summary>A device of the system, with one command queue.</summary>
internal sealed unsafe class MetalRuntime : IMetalRuntime, IGpuClock
{
    /// <summary>
    /// Command buffers under way at most; a call beyond them waits for the oldest. A queue of the system has 64 to give, and half of that hides any launch behind the work before it.
    /// </summary>
    public const int MaxUnderWay = 32;

    /// <summary>What setBytes takes: below this.</summary>
    private const int ParameterLimit = 4096;

    private const int BufferSlots = 31;

    /// <summary>MTLGPUFamilyApple1 is 1001.</summary>
    private const int AppleFamilyBase = 1000;

    private const int NewestFamily = 12;

    private readonly Lock _encoding = new();
    private readonly Submissions _submissions = new();
    private readonly NativeObject _device;
    private NativeObject _queue;
    private readonly PipelineCache _pipelines;

    /// <summary>Of the launches that are being encoded.</summary>
    private Pipeline[] _bound = new Pipeline[4];
    private OpenSubmission _open;

    /// <summary>What the open submission's encoder has been told: a launch says what is different, which in a loop over layers is a third of it.</summary>
    private readonly (nint Buffer, long Offset)[] _setBuffers = new (nint, long)[BufferSlots];
    private nint _setPipeline;
    private readonly TimeProvider _time;
    private Residency? _residency;
    private bool _hasNoResidency;
    private bool _isDisposed;

    /// <param name="device">An MTLDevice; taken over, also if this throws.</param>
    /// <param name="compose">For tests that bring their own kernels; the library's otherwise.</param>
    /// <param name="time">For tests that wait for nobody; the system's otherwise.</param>
    /// <exception cref="MetalException">The device has no queue.</exception>
    public MetalRuntime(NativeObject device, Func<KernelFunction, string>? compose = null, TimeProvider? time = null)
    {
        _device = device;
        _time = time ?? TimeProvider.System;
        try
        {
            using AutoreleasePool pool = AutoreleasePool.Open();
            using NativeObject.Lease d = device.Use();
            Device = Describe(d.Id);
            HasUnifiedMemory = Messages.Ask(d.Id, Selectors.HasUnifiedMemory) != 0;
            _pipelines = new(Device.MaxThreadgroupMemory, compose ?? KernelSource.Compose);
            _queue = NativeObject.Own(Messages.Get(d.Id, Selectors.NewCommandQueue), "a command queue");
        }
        catch
        {
            device.Dispose();
            throw;
        }
    }

    public MetalDeviceDescription Device { get; }

    /// <summary>Whether the processor and the GPU have one memory: tensors rely on it.</summary>
    public bool HasUnifiedMemory { get; }

    public long Completed => _submissions.Poll();

    public double WorkedSeconds => _submissions.WorkedSeconds;

    public DeviceMemory Allocate(long bytes)
    {
        // Metal gives nothing for 0 bytes.
        using AutoreleasePool pool = AutoreleasePool.Open();
        using NativeObject.Lease device = _device.Use();
        return MetalBuffer.Allocate(device.Id, Math.Max(16, bytes));
    }

    public DeviceMemory Wrap(nint pointer, long bytes)
    {
        using AutoreleasePool pool = AutoreleasePool.Open();
        using NativeObject.Lease device = _device.Use();
        return MetalBuffer.Wrap(device.Id, pointer, bytes);
    }

    public void KeepResident(DeviceMemory memory)
    {
        var buffer = (MetalBuffer)memory;
        Residency? residency;
        lock (_encoding)
        {
            ObjectDisposedException.ThrowIf(_isDisposed, this);
            residency = _residency ??= MakeResidency();
        }

        if (residency is not null && residency.Add(buffer.Handle, buffer.Bytes)) buffer.Keeper = residency;
    }

    public KernelResources Prepare(KernelFunction function)
    {
        using NativeObject.Lease device = _device.Use();
        return _pipelines.Get(device.Id, function).Resources;
    }

    public double SubmissionBudget => _submissions.Budget.Current;

    public long Submit(ReadOnlySpan<KernelLaunch> launches, bool staysOpen = false)
    {
        if (launches.IsEmpty) throw new ArgumentException("There is nothing to submit.", nameof(launches));
        using NativeObject.Lease device = _device.Use();
        lock (_encoding)
        {
            ObjectDisposedException.ThrowIf(_isDisposed, this);

            // All that can be refused is refused before the first message: an encoder that is let go unended ends the process.
            if (_bound.Length < launches.Length) _bound = new Pipeline[launches.Length];
            for (int i = 0; i < launches.Length; i++)
            {
                _bound[i] = _pipelines.Get(device.Id, launches[i].Function);
                Check(launches[i], _bound[i]);
            }

            using AutoreleasePool pool = AutoreleasePool.Open();
            _residency?.Use();
            bool begins = !_open.IsOpen;
            if (begins) Begin(device.Id);
            try
            {
                for (int i = 0; i < launches.Length; i++) Encode(_open.Encoder, launches[i], _bound[i]);
            }
            catch when (begins)
            {
                Abandon();
                throw;
            }

            _open.Entry.Add(launches);
            return staysOpen ? _submissions.Submitted + 1 : CommitOpen();
        }
    }

    public void Commit()
    {
        lock (_encoding)
        {
            if (!_open.IsOpen) return;
            using AutoreleasePool pool = AutoreleasePool.Open();
            CommitOpen();
        }
    }

    public void Wait(long submission)
    {
        long submitted = _submissions.Submitted;
        if (submission > submitted) throw new ArgumentOutOfRangeException(nameof(submission), submission, $"There are {submitted} submissions.");
        _submissions.Await(submission);
        _submissions.ThrowIfFailed(submission);
    }

    public void Dispose()
    {
        lock (_encoding)
        {
            if (_isDisposed) return;
            _isDisposed = true;
            Commit();
            _submissions.Await(_submissions.Submitted);
            _residency?.Dispose();
            _pipelines.Dispose();
            _queue.Dispose();
            _device.Dispose();
        }
    }

    /// <summary>Asked for once: a system that has none now will not have one later.</summary>
    private Residency? MakeResidency()
    {
        if (_hasNoResidency) return null;
        using AutoreleasePool pool = AutoreleasePool.Open();
        using NativeObject.Lease device = _device.Use();
        if (Residency.Of(device.Id, _time) is not { } residency)
        {
            _hasNoResidency = true;
            return null;
        }

        using NativeObject.Lease queue = _queue.Use();
        residency.Attach(queue.Id);
        return residency;
    }

    /// <summary>Another queue in place of one that the system ignores or will ignore. Submissions end in the order of their numbers, so those of the old one must have ended.</summary>
    private void RenewQueue(nint device)
    {
        _submissions.Await(_submissions.Submitted);
        var queue = NativeObject.Own(Messages.Get(device, Selectors.NewCommandQueue), "a command queue");
        _queue.Dispose();
        _queue = queue;
        using (NativeObject.Lease renewed = queue.Use()) _residency?.Attach(renewed.Id);
        _submissions.BeginQueue();
    }

    /// <summary>A command buffer with one serial encoder: a dispatch begins when the one before it has ended and its writes are seen. In a pool.</summary>
    private void Begin(nint device)
    {
        if (_submissions.Count >= MaxUnderWay) _submissions.Await(_submissions.Submitted - MaxUnderWay + 1);
        if (_submissions.IsQueueSpoilt) RenewQueue(device);
        using NativeObject.Lease queue = _queue.Use();

        // The queue hands command buffers out unowned, and they encoders; both must live for longer than the pool.
        nint commandBuffer = Native.Retain(NativeObject.NotNil(Messages.Get(queue.Id, Selectors.CommandBuffer), "a command buffer"));
        try
        {
            nint encoder = Native.Retain(NativeObject.NotNil(Messages.Get(commandBuffer, Selectors.ComputeCommandEncoder), "a compute command encoder"));
            _open = new(commandBuffer, encoder, _submissions.Take());
            Array.Clear(_setBuffers);
            _setPipeline = 0;
        }
        catch
        {
            NativeObject.Release(commandBuffer);
            throw;
        }
    }

    /// <summary>In a pool.</summary>
    private long CommitOpen()
    {
        EndEncoding();
        Messages.Call(_open.CommandBuffer, Selectors.Commit);
        long number = _submissions.Add(_open.Entry, _open.CommandBuffer);
        _open = default;
        return number;
    }

    /// <summary>Lets the open submission go, of which nothing may run. In a pool.</summary>
    private void Abandon()
    {
        EndEncoding();
        Native.Release(_open.CommandBuffer);
        _submissions.GiveBack(_open.Entry);
        _open = default;
    }

    private void EndEncoding()
    {
        Messages.Call(_open.Encoder, Selectors.EndEncoding);
        Native.Release(_open.Encoder);
    }

    private void Encode(nint encoder, KernelLaunch launch, Pipeline pipeline)
    {
        using (NativeObject.Lease state = pipeline.Use())
        {
            if (state.Id != _setPipeline) Messages.Call(encoder, Selectors.SetComputePipelineState, state.Id);
            _setPipeline = state.Id;
        }

        foreach (BufferBinding binding in launch.Buffers)
        {
            // The command buffer holds the memory from here on until it has ended, so no other can have its identity meanwhile.
            using NativeObject.Lease buffer = ((MetalBuffer)binding.Memory).Handle.Use();
            ref (nint Buffer, long Offset) set = ref _setBuffers[binding.Index];
            if (set.Buffer != buffer.Id) Messages.Call(encoder, Selectors.SetBuffer, buffer.Id, (nuint)binding.Offset, (nuint)binding.Index);
            else if (set.Offset != binding.Offset) Messages.Call(encoder, Selectors.SetBufferOffset, (nuint)binding.Offset, (nuint)binding.Index);
            set = (buffer.Id, binding.Offset);
        }

        ReadOnlySpan<byte> parameters = launch.Parameters.AsSpan();
        if (!parameters.IsEmpty)
        {
            fixed (byte* first = parameters) Messages.Call(encoder, Selectors.SetBytes, (nint)first, (nuint)parameters.Length, (nuint)launch.ParameterIndex);
        }

        Messages.Call(encoder, Selectors.DispatchThreadgroups, Size(launch.Threadgroups), Size(launch.ThreadsPerThreadgroup));
    }

    private static MetalSize Size(GridSize size) => new(size.X, size.Y, size.Z);

    private static void Check(KernelLaunch launch, Pipeline pipeline)
    {
        string name = launch.Function.Name;
        if (launch.Threadgroups.Count == 0 || launch.ThreadsPerThreadgroup.Count == 0)
            throw new ArgumentException($"Kernel {name} is launched with {launch.Threadgroups} threadgroups of {launch.ThreadsPerThreadgroup}.", nameof(launch));
        if (launch.ThreadsPerThreadgroup.Count > (ulong)pipeline.Resources.MaxThreads)
            throw new MetalException($"Kernel {name} ({launch.Function.LibraryName}) may have {pipeline.Resources.MaxThreads} threads a threadgroup on this device, and {launch.ThreadsPerThreadgroup.Count} are needed.");
        if (launch.Parameters.Length >= ParameterLimit || (uint)launch.ParameterIndex >= BufferSlots)
            throw new ArgumentException($"Kernel {name} has {launch.Parameters.Length} bytes of parameters in slot {launch.ParameterIndex}.", nameof(launch));
        foreach (BufferBinding binding in launch.Buffers)
        {
            ObjectDisposedException.ThrowIf(((MetalBuffer)binding.Memory).Handle.IsClosed, binding.Memory);
            if ((uint)binding.Index >= BufferSlots || binding.Offset < 0 || binding.Offset >= binding.Memory.Bytes)
                throw new ArgumentException($"Kernel {name} has slot {binding.Index} at byte {binding.Offset} of {binding.Memory.Bytes}.", nameof(launch));
        }
    }

    private static MetalDeviceDescription Describe(nint device)
    {
        int family = NewestFamily;
        while (family > 0 && Messages.Ask(device, Selectors.SupportsFamily, AppleFamilyBase + family) == 0) family--;
        return new(
            NativeText.Read(Messages.Get(device, Selectors.Name)) ?? "a device without a name",
            family,
            (int)Messages.Get(device, Selectors.MaxThreadgroupMemoryLength),
            Messages.Get(device, Selectors.MaxBufferLength),
            HasKnownLaneMap: false);
    }

    /// <summary>What is being encoded; the references are its own.</summary>
    /// <param name="CommandBuffer">Not committed.</param>
    /// <param name="Encoder">Not ended.</param>
    /// <param name="Entry">What there will be to say of it.</param>
    private readonly record struct OpenSubmission(nint CommandBuffer, nint Encoder, Submissions.Entry Entry)
    {
        public bool IsOpen => CommandBuffer != 0;
    }
}
