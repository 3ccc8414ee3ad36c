using System.Collections.Concurrent;
using FusedAttention.Metal.Launching;

namespace FusedAttention.Metal.ObjectiveC;

/// <summary>
/// Compiles kernels, each once: the text of a family with its definitions becomes a library (0.1 to some seconds), a function with its constants a pipeline.
/// What failed is tried again by the next call that needs it.
/// </summary>
/// <remarks>One compilation at a time; calls whose kernels are there do not wait for it.</remarks>
/// <param name="maxThreadgroupMemory">Of the device.</param>
/// <param name="compose">A library's text: <see cref="KernelSource.Compose"/>, unless a test brings its own.</param>
internal sealed unsafe class PipelineCache(int maxThreadgroupMemory, Func<KernelFunction, string> compose) : IDisposable
{
    /// <summary>Metal 3.1, the first with <c>bfloat</c> (macOS 14): the major number above 16 bits of the minor one.</summary>
    private const nint LanguageVersion = (3 << 16) | 1;

    /// <summary>MTLMathModeSafe: infinities and NaN mean what IEEE says. The kernels are written not to need it, and are glad of it.</summary>
    private const nint SafeMath = 0;

    private readonly Lock _gate = new();
    private readonly ConcurrentDictionary<KernelFunction, Pipeline> _pipelines = new();
    private readonly Dictionary<string, NativeObject> _libraries = new(StringComparer.Ordinal);
    private bool _isDisposed;

    /// <exception cref="MetalException">A kernel does not compile; the message has the compiler's log.</exception>
    public Pipeline Get(nint device, KernelFunction function)
    {
        if (_pipelines.TryGetValue(function, out Pipeline? known)) return known;
        lock (_gate)
        {
            ObjectDisposedException.ThrowIf(_isDisposed, this);
            if (_pipelines.TryGetValue(function, out known)) return known;
            using AutoreleasePool pool = AutoreleasePool.Open();
            using NativeObject specialised = Specialise(Library(device, function), function);
            Pipeline pipeline = Build(device, specialised, function);
            _pipelines[function] = pipeline;
            return pipeline;
        }
    }

    public void Dispose()
    {
        lock (_gate)
        {
            _isDisposed = true;
            foreach (Pipeline pipeline in _pipelines.Values) pipeline.Dispose();
            foreach (NativeObject library in _libraries.Values) library.Dispose();
            _pipelines.Clear();
            _libraries.Clear();
        }
    }

    private NativeObject Library(nint device, KernelFunction function)
    {
        if (_libraries.TryGetValue(function.LibraryKey, out NativeObject? known)) return known;
        using NativeObject source = NativeText.Create(compose(function));
        using NativeObject options = NativeObject.Create(Classes.CompileOptions, "compile options");
        using NativeObject.Lease text = source.Use();
        using NativeObject.Lease compile = options.Use();
        Messages.Call(compile.Id, Selectors.SetLanguageVersion, LanguageVersion);

        // setMathMode: came with macOS 15; before it there was only "fast or not".
        if (Messages.Ask(compile.Id, Selectors.RespondsToSelector, Selectors.SetMathMode) != 0) Messages.Call(compile.Id, Selectors.SetMathMode, SafeMath);
        else Messages.CallWithBool(compile.Id, Selectors.SetFastMathEnabled, 0);

        // An error beside a library is a warning.
        nint error = 0;
        nint library = Messages.Get(device, Selectors.NewLibraryWithSource, text.Id, compile.Id, &error);
        if (library == 0)
        {
            throw new MetalException(
                $"The Metal compiler refused {string.Join(", ", KernelSource.FilesOf(function.Family))} ({function.LibraryKey}):\n{NativeText.Describe(error)}");
        }

        var owned = NativeObject.Own(library, function.LibraryName);
        _libraries[function.LibraryKey] = owned;
        return owned;
    }

    private static NativeObject Specialise(NativeObject library, KernelFunction function)
    {
        using NativeObject values = NativeObject.Create(Classes.FunctionConstantValues, "function constants");
        using NativeObject name = NativeText.Create(function.Name);
        using NativeObject.Lease from = library.Use();
        using NativeObject.Lease constants = values.Use();
        using NativeObject.Lease named = name.Use();
        foreach (FunctionConstant constant in function.Constants)
        {
            // Copied during the call. A bool is one byte: the lowest, which comes first.
            int bits = constant.Bits;
            Messages.Call(constants.Id, Selectors.SetConstantValue, (nint)(&bits), (nuint)constant.Type, (nuint)constant.Index);
        }

        nint error = 0;
        nint specialised = Messages.Get(from.Id, Selectors.NewFunctionWithName, named.Id, constants.Id, &error);
        return specialised != 0
            ? NativeObject.Own(specialised, function.Name)
            : throw new MetalException($"Metal gave no kernel {Text(function)}: {NativeText.Describe(error)}");
    }

    private Pipeline Build(nint device, NativeObject specialised, KernelFunction function)
    {
        using NativeObject.Lease kernel = specialised.Use();
        nint error = 0;
        nint state = Messages.Get(device, Selectors.NewComputePipelineState, kernel.Id, &error);
        return state != 0
            ? Pipeline.Of(NativeObject.Own(state, function.Name), function, maxThreadgroupMemory)
            : throw new MetalException($"Metal made no machine code of kernel {Text(function)}:\n{NativeText.Describe(error)}");
    }

    private static string Text(KernelFunction function) =>
        $"{function.Name} ({function.LibraryName}; {string.Join(' ', function.Constants.Select(static c => $"{c.Name}={c.Bits}"))})";
}
