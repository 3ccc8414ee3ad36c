using FusedAttention.Comparison.Ggml;
using FusedAttention.Comparison.Onnx;

namespace FusedAttention.Comparison.Contenders;

/// <summary>The peers' native libraries, inside the packages that npm has installed beside this project.</summary>
internal sealed class PeerLibraries : IDisposable
{
    private const string OrtFile = "onnxruntime-node/bin/napi-v6/linux/x64/libonnxruntime.so.1";
    private const string GgmlFolder = "@node-llama-cpp/linux-x64/bins/linux-x64";

    private readonly OrtLibrary _ort;
    private readonly GgmlLibrary _ggml;

    private PeerLibraries(OrtLibrary ort, GgmlLibrary ggml)
    {
        _ort = ort;
        _ggml = ggml;
    }

    public string OrtVersion => $"ONNX Runtime {_ort.Version}";

    public string GgmlVersion => $"ggml {_ggml.Version}, backend {_ggml.Variant}";

    /// <param name="modules">The folder <c>node_modules</c>.</param>
    /// <param name="ggmlVariant">ggml's backend by name; null for the best.</param>
    public static PeerLibraries Load(string modules, string? ggmlVariant)
    {
        string ort = Path.Combine(modules, OrtFile);
        string ggml = Path.Combine(modules, GgmlFolder);
        if (!File.Exists(ort)) throw new FileNotFoundException($"{ort} is missing: install the peers with `npm ci --ignore-scripts` in the project's folder.", ort);
        if (!Directory.Exists(ggml)) throw new DirectoryNotFoundException($"{ggml} is missing: install the peers with `npm ci --ignore-scripts` in the project's folder.");
        return new(new OrtLibrary(ort), new GgmlLibrary(ggml, ggmlVariant));
    }

    public IEnumerable<ContenderEntry> Entries(int threads)
    {
        yield return Ort("ORT GroupQueryAttention", "head-major cache", OrtOperator.GroupQueryAttention);
        yield return Ort("ORT MultiHeadAttention", "token-major", OrtOperator.MultiHeadAttention);
        yield return Ort("ORT Attention", "head-major", OrtOperator.Attention);
        yield return Ggml("ggml flash", "token-major", GgmlPath.Flash);
        yield return Ggml("ggml flash, head-major", "head-major", GgmlPath.FlashHeadMajor);
        yield return Ggml("ggml unfused", "keys token-major, values transposed", GgmlPath.Unfused);

        ContenderEntry Ort(string name, string layout, Func<Cases.AttentionCase, Cases.CaseInputs, OrtOperator> create)
            => new(name, layout, IsOurs: false, (attentionCase, inputs) => new OrtContender(_ort, attentionCase, create(attentionCase, inputs), threads));

        ContenderEntry Ggml(string name, string layout, GgmlPath path)
            => new(name, layout, IsOurs: false, (attentionCase, inputs) => new GgmlContender(_ggml, attentionCase, inputs, path, threads));
    }

    public void Dispose() => _ort.Dispose();
}
