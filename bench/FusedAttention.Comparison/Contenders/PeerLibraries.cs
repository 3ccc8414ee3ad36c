using System.Reflection;
using FusedAttention.Comparison.Cases;
using FusedAttention.Comparison.Ggml;
using FusedAttention.Comparison.Onnx;
using FusedAttention.Comparison.Torch;

namespace FusedAttention.Comparison.Contenders;

/// <summary>
/// The peers' native libraries: inside the packages that NuGet has unpacked for a build with peers, and inside those that npm has installed beside this project. One that is not there, or does not load on this
/// machine, is left out, and <see cref="Missing"/> says why.
/// </summary>
internal sealed class PeerLibraries : IDisposable
{
    private const string OrtFile = "runtimes/linux-x64/native/libonnxruntime.so";
    private const string TorchFile = "runtimes/linux-x64/native/libtorch_cpu.so";
    private const string GgmlFolder = "@node-llama-cpp/linux-x64/bins/linux-x64";

    private readonly List<string> _missing = [];
    private readonly OrtLibrary? _ort;
    private readonly TorchLibrary? _torch;
    private readonly GgmlLibrary? _ggml;

    private PeerLibraries(string? ortPackage, string? torchPackage, string modules, string? ggmlVariant)
    {
        _ort = Try("ONNX Runtime", () => new OrtLibrary(InPackage(ortPackage, OrtFile)));
        _torch = Try("torch", () => new TorchLibrary(InPackage(torchPackage, TorchFile)));
        string ggml = Path.Combine(modules, GgmlFolder);

        // A variant that was asked for and is not there is a mistake, not a reason to go on without.
        if (!Directory.Exists(ggml)) _missing.Add($"Without ggml: {ggml} is missing; `npm ci --ignore-scripts` in the project's folder installs it.");
        else _ggml = ggmlVariant is null ? Try("ggml", () => new GgmlLibrary(ggml, null)) : new GgmlLibrary(ggml, ggmlVariant);
    }

    /// <summary>A sentence for each peer that is left out.</summary>
    public IReadOnlyList<string> Missing => _missing;

    /// <param name="modules">The folder <c>node_modules</c>.</param>
    /// <param name="ggmlVariant">ggml's backend by name; null for the best.</param>
    public static PeerLibraries Load(string modules, string? ggmlVariant) => Load(Package("Peers.OnnxRuntime"), Package("Peers.Torch"), modules, ggmlVariant);

    /// <param name="ortPackage">The folder of the package of ONNX Runtime; null if the build has none.</param>
    /// <param name="torchPackage">The folder of the package of libtorch; null if the build has none.</param>
    /// <param name="modules">The folder <c>node_modules</c>.</param>
    /// <param name="ggmlVariant">ggml's backend by name; null for the best.</param>
    public static PeerLibraries Load(string? ortPackage, string? torchPackage, string modules, string? ggmlVariant) => new(ortPackage, torchPackage, modules, ggmlVariant);

    /// <param name="threads">Threads of each contender.</param>
    public IEnumerable<ContenderEntry> Entries(int threads)
    {
        if (_ort is not null)
        {
            yield return Ort("ORT GroupQueryAttention", "head-major cache", OrtOperator.GroupQueryAttention);
            yield return Ort("ORT MultiHeadAttention", "token-major", OrtOperator.MultiHeadAttention);
            yield return Ort("ORT Attention", "head-major", OrtOperator.Attention);
        }

        if (_torch is not null)
        {
            yield return Torch("torch SDPA", "token-major", isHeadMajor: false);
            yield return Torch("torch SDPA, head-major", "head-major", isHeadMajor: true);
        }

        if (_ggml is not null)
        {
            yield return Ggml("ggml flash", "token-major", GgmlPath.Flash);
            yield return Ggml("ggml flash, head-major", "head-major", GgmlPath.FlashHeadMajor);
            yield return Ggml("ggml unfused", "keys token-major, values transposed", GgmlPath.Unfused);
        }

        ContenderEntry Ort(string name, string layout, Func<AttentionCase, CaseInputs, OrtOperator> create)
            => new(name, layout, IsOurs: false, (attentionCase, inputs) => new OrtContender(_ort, NotEightBit(attentionCase), create(attentionCase, inputs), threads), $"ONNX Runtime {_ort.Version}");

        ContenderEntry Torch(string name, string layout, bool isHeadMajor)
            => new(name, layout, IsOurs: false, (attentionCase, inputs) => new TorchContender(_torch, NotEightBit(attentionCase), inputs, isHeadMajor, threads), $"torch {_torch.Version}");

        ContenderEntry Ggml(string name, string layout, GgmlPath path)
            => new(name, layout, IsOurs: false, (attentionCase, inputs) => new GgmlContender(_ggml, attentionCase, inputs, path, threads), $"ggml {_ggml.Version}, backend {_ggml.Variant}");
    }

    public void Dispose() => _ort?.Dispose();

    private static AttentionCase NotEightBit(AttentionCase c) => c.IsEightBit ? throw new NotOfferedException("compared on floating-point keys and values only") : c;

    private static string? Package(string name) => typeof(PeerLibraries).Assembly.GetCustomAttributes<AssemblyMetadataAttribute>().FirstOrDefault(a => string.Equals(a.Key, name, StringComparison.Ordinal))?.Value;

    private static string InPackage(string? package, string file)
    {
        if (string.IsNullOrEmpty(package)) throw new FileNotFoundException("this build has no peers of NuGet; bench/compare.sh builds with `-p:Peers=true`.");
        string path = Path.Combine(package, file);
        return File.Exists(path) ? path : throw new FileNotFoundException($"{path} is missing.", path);
    }

    private T? Try<T>(string name, Func<T> load)
        where T : class
    {
        try
        {
            return load();
        }
        catch (Exception e) when (e is IOException or DllNotFoundException or BadImageFormatException or EntryPointNotFoundException or NotSupportedException)
        {
            _missing.Add($"Without {name}: {e.Message.Split('\n')[0]}"); // the loader's message goes on with all paths that it tried
            return null;
        }
    }
}
