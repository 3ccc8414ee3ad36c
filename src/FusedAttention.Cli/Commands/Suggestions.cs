using System.CommandLine;

namespace FusedAttention.Cli.Commands;

/// <summary>What somebody meant who typed a name that does not exist.</summary>
internal static class Suggestions
{
    /// <summary>": did you mean x?", or a point where nothing is near. A name that has the typed one as its end, as --query-heads has --heads, is nearer than one that looks like it.</summary>
    public static string DidYouMean(string typed, IEnumerable<string> names)
    {
        string[] all = [.. names];
        string ending = typed.TrimStart('-');
        string[] longer = [.. all.Where(name => name.EndsWith("-" + ending, StringComparison.Ordinal))];
        if (longer.Length > 0) return $": did you mean {string.Join(" or ", longer)}?";
        (int distance, string name) = all.Select(name => (Distance(typed, name), name)).DefaultIfEmpty((int.MaxValue, "")).Min();
        return distance <= 1 + (typed.Length / 5) ? $": did you mean {name}?" : ".";
    }

    /// <summary>The message about an option that a command does not have.</summary>
    public static string NoOption(string typed, Command command) => $"There is no option {typed}{DidYouMean(typed, OptionsOf(command))}";

    /// <summary>The names of a command's options.</summary>
    public static IEnumerable<string> OptionsOf(Command command) => command.Options.SelectMany(static option => option.Aliases.Prepend(option.Name)).Where(static name => name.StartsWith("--", StringComparison.Ordinal));

    /// <summary>Characters to insert, leave out, replace or exchange with their neighbour (Damerau 1964, restricted).</summary>
    private static int Distance(string a, string b)
    {
        int[,] d = new int[a.Length + 1, b.Length + 1];
        for (int i = 0; i <= a.Length; i++) d[i, 0] = i;
        for (int j = 0; j <= b.Length; j++) d[0, j] = j;
        for (int i = 1; i <= a.Length; i++)
        {
            for (int j = 1; j <= b.Length; j++)
            {
                d[i, j] = Math.Min(Math.Min(d[i - 1, j], d[i, j - 1]) + 1, d[i - 1, j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1));
                if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) d[i, j] = Math.Min(d[i, j], d[i - 2, j - 2] + 1);
            }
        }

        return d[a.Length, b.Length];
    }
}
