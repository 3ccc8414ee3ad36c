using Xunit;

namespace FusedAttention.Guides.Tests;

/// <summary>A guide is found by those who do not know that it is there: from the site's contents, from its first page, and from the README.</summary>
public sealed class ContentsTests
{
    [Theory]
    [InlineData("docs/toc.yml", "href: {0}\n")]
    [InlineData("docs/index.md", "]({0})")]
    [InlineData("README.md", "](docs/{0}")]
    public void Every_guide_is_listed(string contents, string entry)
    {
        string text = File.ReadAllText(Path.Combine(ReferenceData.Root, contents)).ReplaceLineEndings("\n");
        string[] guides = [.. Directory.EnumerateFiles(Path.Combine(ReferenceData.Root, "docs"), "*.md").Select(static path => Path.GetFileName(path)).Where(static name => name is not "index.md")];
        Assert.NotEmpty(guides);
        Assert.All(guides, guide => Assert.Contains(string.Format(entry, guide), text, StringComparison.Ordinal));
    }
}
