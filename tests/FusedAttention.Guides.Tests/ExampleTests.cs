using System.Text.RegularExpressions;
using Xunit;

namespace FusedAttention.Guides.Tests;

/// <summary>
/// Every C# and F# example of the README, the package's page and docs/ has been compiled and run: a block stands under a line <c>&lt;!-- example: Name --&gt;</c>, and is word for word the text between
/// <c>// README: Name</c> and <c>// README: end</c> of a test project's <c>*Examples.cs</c> or <c>.fs</c>. Lines of <c>using</c> or <c>open</c> may stand above it.
/// </summary>
public sealed partial class ExampleTests
{
    [Fact]
    public void Every_example_is_one_that_is_run()
    {
        Dictionary<string, string> run = [];
        foreach (string path in Directory.EnumerateFiles(Path.Combine(ReferenceData.Root, "tests"), "*Examples.?s", SearchOption.AllDirectories))
            foreach (Match match in RunExample().Matches(Read(path))) run.Add(match.Groups["name"].Value, WithoutIndentation(match.Groups["code"].Value));

        var shown = new HashSet<string>(StringComparer.Ordinal);
        foreach (string path in Pages.WithExamples)
        {
            foreach (Match match in ShownExample().Matches(Read(path)))
            {
                string name = match.Groups["name"].Value, code = WithoutIndentation(Imports().Replace(match.Groups["code"].Value, ""));
                Assert.True(name.Length > 0, $"{path} has an example without a name, which nothing compiles:\n{code}");
                Assert.True(run.ContainsKey(name), $"{path} shows the example '{name}', which no *Examples.cs or *Examples.fs of the tests has.");
                Assert.Equal(run[name], code);
                shown.Add(name);
            }
        }

        string[] unseen = [.. run.Keys.Except(shown, StringComparer.Ordinal)];
        Assert.Empty(unseen);
    }

    private static string Read(string path) => File.ReadAllText(path).ReplaceLineEndings("\n");

    private static string WithoutIndentation(string code)
    {
        string[] lines = code.Trim('\n').Split('\n');
        int indent = lines.Where(line => line.Trim().Length > 0).Min(line => line.Length - line.TrimStart().Length);
        return string.Join('\n', lines.Select(line => line.Length < indent ? "" : line[indent..].TrimEnd())).Trim('\n');
    }

    [GeneratedRegex(@"(<!-- example: (?<name>\w+) -->\s*)?^```(csharp|fsharp)\n(?<code>.*?)^```", RegexOptions.Singleline | RegexOptions.Multiline | RegexOptions.ExplicitCapture, matchTimeoutMilliseconds: 5000)]
    private static partial Regex ShownExample();

    [GeneratedRegex(@"// README: (?<name>(?!end\b)\w+)\n(?<code>.*?)\n[ ]*// README: end", RegexOptions.Singleline | RegexOptions.ExplicitCapture, matchTimeoutMilliseconds: 5000)]
    private static partial Regex RunExample();

    [GeneratedRegex(@"\A((using|open) [\w.]+;?\n)+\n", RegexOptions.ExplicitCapture, matchTimeoutMilliseconds: 5000)]
    private static partial Regex Imports();
}
