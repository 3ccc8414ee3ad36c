using FusedAttention.Samples.TextGeneration.Model;
using FusedAttention.Samples.TextGeneration.Tokens;

namespace FusedAttention.Samples.TextGeneration.Loading;

/// <summary>A model and the way its tokens are written.</summary>
internal sealed record LoadedModel(string Name, ModelWeights Weights, ITokenizer Tokenizer);

/// <summary>Finds and opens models.</summary>
internal static class ModelFolder
{
    /// <summary>The model that comes with the sample.</summary>
    public static string DefaultModel => Path.Combine(Repository, "samples", "TextGeneration", "models", "kjv-alibi-6m", "model.safetensors");

    /// <summary>A second model, which the repository does not contain: it may lie beside the checkout.</summary>
    public static string Stories => Path.GetFullPath(Path.Combine(Repository, "..", "shared", "data", "models", "stories260K.bin"));

    /// <summary>The folder above the program that holds the solution.</summary>
    private static string Repository
    {
        get
        {
            for (DirectoryInfo? folder = new(AppContext.BaseDirectory); folder is not null; folder = folder.Parent)
                if (File.Exists(Path.Combine(folder.FullName, "FusedAttention.slnx"))) return folder.FullName;
            throw new FileNotFoundException("This program does not lie in the repository: --model must name a model file.");
        }
    }

    /// <param name="path">A .safetensors file as kjv-alibi-6m's, a llama2.c .bin file with tok512.bin beside it, or the name "stories260K".</param>
    public static LoadedModel Load(string path)
    {
        if (path is "stories260K")
        {
            path = Stories;
            if (!File.Exists(path)) throw new FileNotFoundException("stories260K is not in the repository: get stories260K.bin and tok512.bin, which llama2.c's model page has, and give the path of the first with --model.");
        }

        if (!File.Exists(path)) throw new FileNotFoundException($"There is no model file {path}.");
        string name = $"{Path.GetFileName(Path.GetDirectoryName(Path.GetFullPath(path)))}/{Path.GetFileName(path)}";
        if (!Path.GetExtension(path).Equals(".bin", StringComparison.OrdinalIgnoreCase)) return new(name, AlibiModelFile.Load(path), new ByteTokenizer());
        ModelWeights weights = Llama2cFile.Load(path);
        string pieces = Path.Combine(Path.GetDirectoryName(Path.GetFullPath(path))!, "tok512.bin");
        if (!File.Exists(pieces)) throw new FileNotFoundException($"{path}: its tokens, tok512.bin, do not lie beside it: {pieces} is not there.");
        return new(name, weights, PieceTokenizer.Load(pieces, weights.Config.Vocabulary));
    }
}
