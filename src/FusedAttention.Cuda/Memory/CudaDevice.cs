using FusedAttention.Cuda.Launching;
using FusedAttention.Cuda.Memory;
using FusedAttention.Cuda.Planning;
using FusedAttention.Devices;

namespace FusedAttention;

/// <summary>
/// An NVIDIA GPU, through the CUDA driver alone. Work goes to streams (<see cref="CudaStream"/>): to <see cref="DefaultStream"/> unless a call names one.
/// </summary>
/// <remarks>
/// <para>Calls return when their work is queued. Whoever copies a tensor's elements to the host waits for the work that writes that tensor (<see cref="CudaTensor{T}"/> says when);
/// <see cref="Synchronize"/> waits for everything.</para>
/// <para>The library works in the device's primary context, as the CUDA runtime and everything built on it does: pointers and streams of theirs are good here. A context that is current on the calling
/// thread is current again when a call returns.</para>
/// <para>A failure on the GPU is thrown by whatever waits or queues next, as <see cref="CudaException"/>. After an illegal access the driver fails everything in the context, for as long as the process
/// lives. All methods may be called from any number of threads at once. Devices live as long as the process.</para>
/// </remarks>
public sealed partial class CudaDevice
{
    private readonly Lock _gate = new();
    private CudaStream? _default;
    private readonly List<TableFaults> _tableFaults = [];

    /// <param name="runtime">Runs the launches: the driver, or in tests a recorder. Taken over.</param>
    internal CudaDevice(ICudaRuntime runtime)
    {
        Runtime = runtime;
        TensorMaps = new(runtime);
        FunctionTables = new(this);
    }

    /// <summary>As the driver calls it, <c>NVIDIA H100 80GB HBM3</c>.</summary>
    public string Name => Description.Name;

    /// <summary>The driver's number for the device, from 0.</summary>
    public int Ordinal => Description.Ordinal;

    /// <summary>What generation it is: 8.0 for Ampere, 9.0 for Hopper.</summary>
    public Version ComputeCapability => new(Description.Major, Description.Minor);

    /// <summary>How many multiprocessors it has.</summary>
    public int Multiprocessors => Description.Multiprocessors;

    /// <summary>All of its memory, in bytes, used or not.</summary>
    public long MemoryBytes => Description.MemoryBytes;

    /// <summary>The longest tensor that one allocation can hold, in bytes; how much is free is another question.</summary>
    public long MaxTensorBytes => Description.MemoryBytes;

    /// <summary>
    /// A folder in which machine code is kept that the driver has assembled of this library's kernels, and looked for before it is assembled again: assembling takes tenths of a second a kernel, loading
    /// milliseconds. Null, the default: the driver's own cache alone, which is the user's and may be turned off. The environment variable <c>FUSEDATTENTION_CUDA_KERNELS</c> names one for all devices.
    /// </summary>
    /// <remarks>
    /// It is made if it is not there; any number of processes, devices and versions may share it, and files in it may be deleted at any time. What it holds is run on the GPU as it is: let nobody write to it
    /// who may not run programs. Set it before the first calls: kernels that are loaded are not written.
    /// </remarks>
    /// <exception cref="IOException">It cannot be made.</exception>
    /// <exception cref="UnauthorizedAccessException">It may not be made.</exception>
    public string? KernelFolder
    {
        get => Runtime.KernelFolder;
        set => Runtime.KernelFolder = value;
    }

    /// <summary>The stream of calls that name none. It waits for no other, also not for CUDA's own default stream.</summary>
    /// <exception cref="CudaException">The driver makes no stream.</exception>
    public CudaStream DefaultStream => Volatile.Read(ref _default) ?? MakeDefault();

    internal CudaDeviceDescription Description => Runtime.Device;

    internal ICudaRuntime Runtime { get; }

    /// <summary>Tensors as the device's copy unit is told of them.</summary>
    internal TensorMapCache TensorMaps { get; }

    /// <summary>Tables that the functions of calls look up.</summary>
    internal FunctionTables FunctionTables { get; }

    /// <summary>The form of the prefill kernel that calls get where both take them: for tests, and for timing one beside the other.</summary>
    internal PrefillForm PrefillForm { get; set; } = PrefillForms.Default;

    /// <summary>What items of a decode take of a sequence's keys; null for what is fastest. It does not show in the bits.</summary>
    internal ItemKeys? DecodeItems { get; set; } = Cuda.Planning.DecodeItems.Default;

    /// <summary>The form of the decode kernel that calls get where both take them. It does not show in the bits.</summary>
    internal DecodeCopies DecodeCopies { get; set; } = DecodeCopiesForms.Default;

    /// <summary>Memory of tensors that are gone and may still be in use.</summary>
    internal RetiredTensors Retired { get; } = new();

    /// <summary>A stream beside the others.</summary>
    /// <exception cref="CudaException">The driver makes none.</exception>
    public CudaStream CreateStream() => new(this, Runtime.CreateStream());

    /// <summary>
    /// A stream of the caller's, in this device's primary context: calls are queued in its order, between the caller's own work. Disposing the result gives working memory back and leaves the stream alone.
    /// Wrap a stream once and keep the result: each has working memory of its own.
    /// </summary>
    /// <param name="handle">A <c>CUstream</c> or <c>cudaStream_t</c>; 0 is the legacy default stream. It must live until the result is disposed.</param>
    public CudaStream WrapStream(nint handle) => new(this, Runtime.WrapStream(handle));

    /// <summary>Waits until the GPU has done all that was queued so far on any stream of the device's primary context, by whomever.</summary>
    /// <exception cref="CudaException">Some of it failed.</exception>
    public void Synchronize()
    {
        Runtime.Synchronize();
        Retired.Collect();
        lock (_gate)
        {
            foreach (TableFaults faults in _tableFaults) faults.ThrowIfAny();
        }
    }

    /// <summary>The device as text, for messages: <c>NVIDIA H100 80GB HBM3 (compute capability 9.0, device 0)</c>.</summary>
    public override string ToString() => $"{Name} (compute capability {Description.Major}.{Description.Minor}, device {Ordinal})";

    /// <summary>Writes and loads kernels unless that has been done.</summary>
    /// <exception cref="CudaException">The driver refuses one.</exception>
    internal void Prepare(ReadOnlySpan<KernelFunction> functions)
    {
        foreach (KernelFunction function in functions) Runtime.Prepare(function);
    }

    /// <summary>Where a stream's kernels report what they find wrong in block tables; until <see cref="Forget"/>.</summary>
    /// <exception cref="CudaException">The driver gives no pinned memory.</exception>
    internal TableFaults MakeTableFaults()
    {
        TableFaults faults = TableFaults.Of(Runtime);
        lock (_gate) _tableFaults.Add(faults);
        return faults;
    }

    /// <summary>The stream is gone.</summary>
    internal void Forget(TableFaults faults)
    {
        lock (_gate) _tableFaults.Remove(faults);
        faults.Dispose();
    }

    /// <summary>The stream that a call means.</summary>
    /// <exception cref="ArgumentException">It is another device's.</exception>
    internal CudaStream StreamOf(CudaStream? stream, string name)
    {
        if (stream is null) return DefaultStream;
        return stream.Device == this ? stream : throw new ArgumentException($"{name} is a {stream}, but the call's tensors are of {this}.", name);
    }

    /// <summary>Ends the device, for tests: those of the system live as long as the process. Streams other than the default one are disposed before.</summary>
    internal void Close()
    {
        FunctionTables.Dispose();
        _default?.Dispose();
        Retired.Collect();
        Runtime.Dispose();
    }

    private CudaStream MakeDefault()
    {
        lock (_gate)
        {
            if (_default is null) Volatile.Write(ref _default, CreateStream());
            return _default!;
        }
    }
}
