using System.Text;

namespace FusedAttention.Cli.Commands;

/// <summary>Names from files in messages.</summary>
internal static class Names
{
    private const int Shown = 8;

    /// <summary>Parts of the names that models give to queries, keys and values.</summary>
    private static readonly string[] Words = ["query", "key", "value", "q_proj", "k_proj", "v_proj"];

    /// <summary>The first few names, and how many more there are. Those that might be meant by query, key, value or output come first.</summary>
    public static string Of(IEnumerable<string> names)
    {
        string[] all = [.. names.OrderByDescending(static name => LooksLikeAttention(name))];
        return all.Length switch
        {
            0 => "holds no tensors",
            <= Shown => $"has {string.Join(", ", all)}",
            _ => $"has {string.Join(", ", all.Take(Shown))} and {all.Length - Shown} more",
        };
    }

    /// <summary>Text without characters that a terminal would obey.</summary>
    public static string Printable(string text)
    {
        if (!text.Any(static c => char.IsControl(c) && c != '\n')) return text;
        var printable = new StringBuilder(text.Length + 16);
        foreach (char c in text)
        {
            if (char.IsControl(c) && c != '\n') printable.Append($"\\u{(int)c:x4}");
            else printable.Append(c);
        }

        return printable.ToString();
    }

    private static bool LooksLikeAttention(string name) => name.Length <= 2 || Words.Any(word => name.Contains(word, StringComparison.OrdinalIgnoreCase));
}
