using System.Text.Json;
using FusedAttention.Samples.TextGeneration.Loading;
using Xunit;

namespace FusedAttention.Samples.Tests;

/// <summary>The sample's models, loaded once, and what they must say.</summary>
internal static class Models
{
    private static readonly Lazy<LoadedModel> LoadedBible = new(static () => ModelFolder.Load(ModelFolder.DefaultModel));
    private static readonly Lazy<LoadedModel> LoadedStories = new(static () => ModelFolder.Load(ModelFolder.Stories));

    /// <summary>kjv-alibi-6m, which the repository has.</summary>
    public static LoadedModel Bible => LoadedBible.Value;

    /// <summary>stories260K, or a skipped test.</summary>
    public static LoadedModel Stories
    {
        get
        {
            Assert.SkipUnless(File.Exists(ModelFolder.Stories), "stories260K.bin does not lie in shared/data/models beside the checkout; the repository does not have it.");
            return LoadedStories.Value;
        }
    }

    /// <summary>Tokens, and the logits that double precision gives them.</summary>
    public static string StoriesLogits => Path.Combine(Path.GetDirectoryName(ModelFolder.Stories)!, "stories260K-logits.safetensors");

    public static string BibleFile(string name) => Path.Combine(Path.GetDirectoryName(ModelFolder.DefaultModel)!, name);

    public static JsonElement BibleReference() => Json(BibleFile("reference.json"));

    public static JsonElement StoriesReference() => Json(Path.Combine(Path.GetDirectoryName(ModelFolder.Stories)!, "stories260K-greedy.json"));

    public static int[] Integers(this JsonElement json, string name) => [.. json.GetProperty(name).EnumerateArray().Select(static number => number.GetInt32())];

    private static JsonElement Json(string path)
    {
        using JsonDocument document = JsonDocument.Parse(File.ReadAllBytes(path));
        return document.RootElement.Clone();
    }
}
