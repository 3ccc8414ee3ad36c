using System.Text.RegularExpressions;
using Xunit;

namespace FusedAttention.Tests;

/// <summary>The examples of the README and of docs/serving.md are those of <see cref="ReadmeExamples"/> here and in the other test projects, word for word: what is shown has been compiled and run.</summary>
public sealed partial class ReadmeTests
{
    [Fact]
    public void Examples_of_the_readme_are_the_ones_that_are_run()
    {
        Dictionary<string, string> shown = Blocks([Path.Combine(ReferenceData.Root, "README.md"), Path.Combine(ReferenceData.Root, "docs", "serving.md")], Shown());
        Dictionary<string, string> run = Blocks(Directory.GetFiles(Path.Combine(ReferenceData.Root, "tests"), "ReadmeExamples.cs", SearchOption.AllDirectories), Run());
        Assert.True(
            shown.Count > 0,
            "README.md and docs/serving.md show no example. An example is a csharp block under a line <!-- example: Name -->, with the text between '// README: Name' and '// README: end' of a ReadmeExamples.cs.");
        foreach ((string name, string code) in shown)
        {
            Assert.True(run.ContainsKey(name), $"README.md or docs/serving.md shows the example '{name}', which no ReadmeExamples.cs has.");
            Assert.Equal(run[name], code);
        }
    }

    /// <summary>Examples by name, without the indentation that they share.</summary>
    private static Dictionary<string, string> Blocks(string[] paths, Regex pattern)
    {
        string text = string.Join('\n', paths.Select(File.ReadAllText)).ReplaceLineEndings("\n");
        var blocks = new Dictionary<string, string>(StringComparer.Ordinal);
        foreach (Match match in pattern.Matches(text))
        {
            string[] lines = match.Groups["code"].Value.Trim('\n').Split('\n');
            int indent = lines.Where(line => line.Trim().Length > 0).Min(line => line.Length - line.TrimStart().Length);
            blocks.Add(match.Groups["name"].Value, string.Join('\n', lines.Select(line => line.Length < indent ? "" : line[indent..].TrimEnd())).Trim('\n'));
        }

        return blocks;
    }

    [GeneratedRegex(@"<!-- example: (?<name>\w+) -->\s*```csharp\n(?<code>.*?)```", RegexOptions.Singleline | RegexOptions.ExplicitCapture, matchTimeoutMilliseconds: 5000)]
    private static partial Regex Shown();

    [GeneratedRegex(@"// README: (?<name>(?!end\b)\w+)\n(?<code>.*?)\n[ ]*// README: end", RegexOptions.Singleline | RegexOptions.ExplicitCapture, matchTimeoutMilliseconds: 5000)]
    private static partial Regex Run();
}
