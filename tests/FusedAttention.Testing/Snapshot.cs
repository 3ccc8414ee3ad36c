using Xunit;

namespace FusedAttention.Testing;

/// <summary>Texts that stay as they were, line for line: in the test that holds them, or in files.</summary>
internal static class Snapshot
{
    /// <summary>Fails with the whole text, for the one who meant to change it: it can be copied into the test as it is.</summary>
    public static void AssertSame(string expected, string actual)
    {
        if (string.Equals(expected.ReplaceLineEndings("\n"), actual, StringComparison.Ordinal)) return;
        Assert.Fail($"The text is now\n\n{actual}\n\nand was\n\n{expected}");
    }

    /// <summary>
    /// Compares with a file. FUSEDATTENTION_UPDATE_SNAPSHOTS=1 rewrites it instead: <c>git diff</c> then shows what the change comes to.
    /// </summary>
    /// <param name="folder">From the root of the repository.</param>
    /// <param name="name">Of the file.</param>
    /// <param name="text">What is to be in it.</param>
    public static void AssertOnFile(string folder, string name, string text)
    {
        string path = Path.Combine(ReferenceData.Root, folder, name);
        string actual = text.TrimEnd('\n') + "\n";
        if (Environment.GetEnvironmentVariable("FUSEDATTENTION_UPDATE_SNAPSHOTS") is "1")
        {
            Directory.CreateDirectory(Path.GetDirectoryName(path)!);
            File.WriteAllText(path, actual);
            return;
        }

        string expected = File.Exists(path) ? File.ReadAllText(path) : "";
        if (string.Equals(expected, actual, StringComparison.Ordinal)) return;
        string[] before = expected.Split('\n'), after = actual.Split('\n');
        int line = before.Zip(after).TakeWhile(static pair => string.Equals(pair.First, pair.Second, StringComparison.Ordinal)).Count();
        Assert.Fail(
            $"The text differs from {folder}/{name} in line {line + 1}; if that is meant, run this test with FUSEDATTENTION_UPDATE_SNAPSHOTS=1.\n" +
            $"- {before.ElementAtOrDefault(line)}\n+ {after.ElementAtOrDefault(line)}");
    }
}
