namespace FusedAttention.Guides.Tests;

/// <summary>The pages that people read.</summary>
internal static class Pages
{
    /// <summary>Those whose examples are for them to paste.</summary>
    public static IEnumerable<string> WithExamples => [Path.Combine(ReferenceData.Root, "README.md"), Path.Combine(ReferenceData.Root, "PACKAGE.md"), .. Directory.EnumerateFiles(Path.Combine(ReferenceData.Root, "docs"), "*.md")];

    /// <summary>All of them.</summary>
    public static IEnumerable<string> All =>
        Directory.EnumerateFiles(ReferenceData.Root, "*.md")
            .Concat(((ReadOnlySpan<string>)["docs", "bench", "samples", "tests"]).ToArray().SelectMany(folder => Directory.EnumerateFiles(Path.Combine(ReferenceData.Root, folder), "*.md", SearchOption.AllDirectories)))
            .Where(static path => !path.Contains("node_modules", StringComparison.Ordinal));
}
