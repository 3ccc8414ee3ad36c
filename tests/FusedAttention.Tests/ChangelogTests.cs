using System.Reflection;
using System.Text.RegularExpressions;
using Xunit;

namespace FusedAttention.Tests;

/// <summary>The section at the top of the changelog is that of the version which is built.</summary>
public sealed partial class ChangelogTests
{
    [Fact]
    public void The_version_at_the_top_is_the_one_that_is_built()
    {
        string built = typeof(Attention).Assembly.GetCustomAttribute<AssemblyInformationalVersionAttribute>()!.InformationalVersion.Split('+')[0];
        Match top = Heading().Match(File.ReadAllText(Path.Combine(ReferenceData.Root, "CHANGELOG.md")));
        Assert.True(top.Success, "CHANGELOG.md has no section [x.y.z] with a date or \"unreleased\".");
        Assert.Equal(built, top.Groups["version"].Value);
    }

    [GeneratedRegex(@"^## \[(?<version>\d+\.\d+\.\d+)\] - (unreleased|\d{4}-\d\d-\d\d)\r?$", RegexOptions.Multiline | RegexOptions.ExplicitCapture, matchTimeoutMilliseconds: 5000)]
    private static partial Regex Heading();
}
