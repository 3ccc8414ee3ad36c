using FusedAttention.Cuda.Launching;

namespace FusedAttention.Cuda.Driver;

/// <summary>A device of the driver, in its primary context: the one that the CUDA runtime and all that is built on it have. Made when it is first needed, which takes a tenth of a second and more.</summary>
internal sealed unsafe class CudaRuntime : ICudaRuntime
{
    private readonly Lock _gate = new();
    private readonly int _device;
    private nint _context;

    /// <summary>What memory of the device's pool is asked for on; 0 where the device has no pool.</summary>
    private nint _allocations;
    private bool _isDisposed;

    /// <param name="driver">Initialised.</param>
    /// <param name="device">The driver's handle.</param>
    /// <param name="description">What it is.</param>
    public CudaRuntime(CudaDriver driver, int device, CudaDeviceDescription description)
    {
        Driver = driver;
        Device = description;
        Kernels = new(this);
        _device = device;
    }

    public CudaDriver Driver { get; }

    public CudaDeviceDescription Device { get; }

    /// <summary>The kernels that are loaded; what the assembler made of one is there to be looked at.</summary>
    public KernelLoader Kernels { get; }

    /// <summary>Where assembled kernels are kept; null: nowhere but in the driver's own cache.</summary>
    public KernelFolder? Folder { get; private set; }

    public string? KernelFolder
    {
        get => Folder?.Path;
        set => Folder = value is null ? null : new(value, Device);
    }

    public CudaMemory Allocate(long bytes)
    {
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(bytes);
        using RelaxedScope scope = EnterRelaxed();
        return new DriverMemory(this, _allocations == 0 ? Driver.MemoryAllocate(bytes) : Driver.MemoryAllocate(bytes, _allocations), bytes);
    }

    public CudaMemory AllocatePinned(long bytes)
    {
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(bytes);
        using RelaxedScope scope = EnterRelaxed();
        void* pointer = Driver.HostAllocate(bytes);
        try
        {
            return new PinnedMemory(this, Driver.HostDevicePointer(pointer), pointer, bytes);
        }
        catch
        {
            Driver.HostFree(pointer);
            throw;
        }
    }

    public ICudaStream CreateStream()
    {
        using RelaxedScope scope = EnterRelaxed();
        return new DriverStream(this, Driver.StreamCreate(), isOwned: true);
    }

    public ICudaStream WrapStream(nint handle) => new DriverStream(this, handle, isOwned: false);

    public void Prepare(KernelFunction function) => Kernels.Get(function);

    public void EncodeTensorMap(in TensorMapShape shape, Span<byte> map)
    {
        // Nothing of the device is in a map, but without a current context the driver refuses to write one.
        using ContextScope scope = Enter();
        Driver.EncodeTensorMap(shape, map);
    }

    public void Synchronize()
    {
        using RelaxedScope scope = EnterRelaxed();
        Driver.ContextSynchronize();
    }

    /// <summary>For tests: those of the system live as long as the process. Nothing uses the device any more.</summary>
    public void Dispose()
    {
        if (!TryEnter(out RelaxedScope scope))
        {
            _isDisposed = true;
            return;
        }

        using (scope)
        {
            lock (_gate)
            {
                if (_isDisposed) return;
                _isDisposed = true;
            }

            Kernels.Dispose();
            if (_allocations != 0) Driver.StreamDestroy(_allocations);
        }

        Driver.PrimaryContextRelease(_device);
    }

    /// <summary>Makes the device's context the thread's until the result is disposed.</summary>
    /// <exception cref="CudaException">There is no context to be had.</exception>
    public ContextScope Enter() => new(Driver, Context());

    /// <summary>The same for what no graph can have.</summary>
    /// <inheritdoc cref="Enter"/>
    public RelaxedScope EnterRelaxed() => new(Driver, Context());

    /// <summary>The same to give something back; there is nothing to give back where the context is gone. Throws nothing.</summary>
    public bool TryEnter(out RelaxedScope scope)
    {
        scope = default;
        nint context = Volatile.Read(ref _context);
        if (context == 0 || _isDisposed) return false;
        try
        {
            scope = new(Driver, context);
            return true;
        }
        catch (CudaException)
        {
            return false;
        }
    }

    public void Free(ulong address)
    {
        if (!TryEnter(out RelaxedScope scope)) return;
        using (scope) Driver.MemoryFree(address);
    }

    public void FreePinned(void* pointer)
    {
        if (!TryEnter(out RelaxedScope scope)) return;
        using (scope) Driver.HostFree(pointer);
    }

    private nint Context() => Volatile.Read(ref _context) is var context and not 0 && !_isDisposed ? context : Retain();

    private nint Retain()
    {
        lock (_gate)
        {
            ObjectDisposedException.ThrowIf(_isDisposed, this);
            if (_context != 0) return _context;
            nint context = Driver.PrimaryContextRetain(_device);
            try
            {
                if (Driver.DeviceAttribute(_device, CudaDriver.AttributeMemoryPoolsSupported) != 0)
                {
                    using RelaxedScope scope = new(Driver, context);
                    _allocations = Driver.StreamCreate();
                }
            }
            catch
            {
                Driver.PrimaryContextRelease(_device);
                throw;
            }

            Volatile.Write(ref _context, context);
            return context;
        }
    }
}
