using System.Text.RegularExpressions;
using Xunit;

namespace FusedAttention.Guides.Tests;

/// <summary>Links of the repository's pages lead somewhere: to a file or folder of it, and to a heading where they name one.</summary>
public sealed partial class LinkTests
{
    [Fact]
    public void No_link_is_dead()
    {
        var dead = new List<string>();
        foreach (string page in Pages.All)
        {
            foreach (Match match in Link().Matches(WithoutCode(File.ReadAllText(page))))
            {
                string target = match.Groups["target"].Value;
                if (Uri.TryCreate(target, UriKind.Absolute, out Uri? uri) && uri.Scheme is "https" or "mailto") continue;
                string[] parts = target.Split('#', 2);
                string path = parts[0].Length == 0 ? page : Path.GetFullPath(Path.Combine(Path.GetDirectoryName(page)!, parts[0]));
                if (!File.Exists(path) && !Directory.Exists(path)) dead.Add($"{page}: {target}");
                else if (parts.Length == 2 && !Anchors(path).Contains(parts[1])) dead.Add($"{page}: {target} (no such heading)");
            }
        }

        Assert.Empty(dead);
    }

    /// <summary>The names that a heading can be reached by: GitHub's rule, which docfx has too.</summary>
    private static HashSet<string> Anchors(string page)
    {
        IEnumerable<string> headings = Heading().Matches(WithoutCode(File.ReadAllText(page))).Select(static match => match.Groups["text"].Value.Trim().ToLowerInvariant());
        return [.. headings.Select(static heading => NotInAnchors().Replace(heading, "").Replace(' ', '-'))];
    }

    private static string WithoutCode(string text) => CodeBlock().Replace(text.ReplaceLineEndings("\n"), "");

    [GeneratedRegex(@"\]\((?<target>[^)\s]+)\)", RegexOptions.ExplicitCapture, matchTimeoutMilliseconds: 5000)]
    private static partial Regex Link();

    [GeneratedRegex(@"^#+ (?<text>.*)$", RegexOptions.Multiline | RegexOptions.ExplicitCapture, matchTimeoutMilliseconds: 5000)]
    private static partial Regex Heading();

    [GeneratedRegex(@"[^\w\- ]", RegexOptions.None, matchTimeoutMilliseconds: 5000)]
    private static partial Regex NotInAnchors();

    [GeneratedRegex(@"^```.*?^```", RegexOptions.Multiline | RegexOptions.Singleline, matchTimeoutMilliseconds: 5000)]
    private static partial Regex CodeBlock();
}
