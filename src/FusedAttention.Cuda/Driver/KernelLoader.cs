using System.Collections.Concurrent;
using FusedAttention.Cuda.Launching;

namespace FusedAttention.Cuda.Driver;

/// <summary>
/// Loads kernels into a device's context, each once, different ones at the same time. What failed is tried again by the next call that needs it.
/// </summary>
internal sealed class KernelLoader(CudaRuntime runtime) : IDisposable
{
    /// <summary>What a block has of shared memory without asking.</summary>
    private const int SharedBytesUnasked = 48 << 10;

    private readonly ConcurrentDictionary<KernelFunction, Slot> _slots = new(ReferenceEqualityComparer.Instance);

    /// <exception cref="CudaException">The driver refuses the kernel; the message has its log.</exception>
    public LoadedKernel Get(KernelFunction function)
    {
        if (!_slots.TryGetValue(function, out Slot? slot)) slot = _slots.GetOrAdd(function, static _ => new Slot());
        if (slot.Kernel is { } loaded) return loaded;
        lock (slot.Gate) return slot.Kernel ??= Load(function);
    }

    /// <summary>Unloads all; nothing runs any more.</summary>
    public void Dispose()
    {
        foreach (Slot slot in _slots.Values)
        {
            if (slot.Kernel is { } kernel) runtime.Driver.ModuleUnload(kernel.Module);
        }

        _slots.Clear();
    }

    private LoadedKernel Load(KernelFunction function)
    {
        if (function.SharedBytes > runtime.Device.MaxSharedMemory)
            throw new CudaException($"Kernel {function.Label} needs {function.SharedBytes} bytes of shared memory a block; {runtime.Device.Name} has {runtime.Device.MaxSharedMemory}.");
        string text = function.Text;
        using RelaxedScope scope = runtime.EnterRelaxed();
        CudaDriver driver = runtime.Driver;
        (int result, string step) = (LoadModule(text, out nint module, out string info, out string errors), runtime.Folder is null ? "cuModuleLoadDataEx" : "cuLinkComplete");
        if (result != CudaDriver.Success)
            throw new CudaException(string.Join('\n', ((string[])[$"The driver refuses kernel {function.Label}. {driver.Describe(result, step)}", errors, info]).Where(static part => part.Length > 0)));
        try
        {
            nint entry = driver.ModuleGetFunction(module, function.EntryPoint);
            int threads = driver.FunctionAttribute(entry, CudaDriver.FunctionMaxThreads);
            if (function.Threads > threads)
                throw new CudaException($"its registers allow {threads} threads a block, and it is launched with {function.Threads}");
            if (function.SharedBytes > SharedBytesUnasked) driver.SetFunctionAttribute(entry, CudaDriver.FunctionMaxDynamicSharedBytes, function.SharedBytes);
            return new(module, entry, driver.FunctionAttribute(entry, CudaDriver.FunctionRegisters), driver.FunctionAttribute(entry, CudaDriver.FunctionLocalBytes), info);
        }
        catch (CudaException failure)
        {
            driver.ModuleUnload(module);
            throw new CudaException($"Kernel {function.Label} (entry {function.EntryPoint}) is of no use: {failure.Message}", failure);
        }
    }

    /// <summary>Loads a text; where there is a folder, out of that, or into it.</summary>
    private int LoadModule(string text, out nint module, out string info, out string errors)
    {
        CudaDriver driver = runtime.Driver;
        if (runtime.Folder is not { } folder) return driver.ModuleLoad(text, out module, out info, out errors);
        string file = folder.FileOf(text);
        if (KernelFolder.Read(file) is { } kept && driver.ModuleLoad(kept, out module, out info, out errors) == CudaDriver.Success) return CudaDriver.Success;
        module = 0;
        int result = driver.Assemble(text, out byte[] image, out info, out errors);
        if (result != CudaDriver.Success) return result;
        KernelFolder.Write(file, image);
        return driver.ModuleLoad(image, out module, out _, out errors);
    }

    private sealed class Slot
    {
        private volatile LoadedKernel? _kernel;

        public Lock Gate { get; } = new();

        public LoadedKernel? Kernel
        {
            get => _kernel;
            set => _kernel = value;
        }
    }
}
