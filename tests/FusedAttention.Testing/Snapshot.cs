using Xunit;

namespace FusedAttention.Testing;

/// <summary>Texts that a test holds as they were, line for line.</summary>
internal static class Snapshot
{
    /// <summary>Fails with the whole text, for the one who meant to change it: it can be copied into the test as it is.</summary>
    public static void AssertSame(string expected, string actual)
    {
        if (string.Equals(expected.ReplaceLineEndings("\n"), actual, StringComparison.Ordinal)) return;
        Assert.Fail($"The text is now\n\n{actual}\n\nand was\n\n{expected}");
    }
}
