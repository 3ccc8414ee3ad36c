using System.Text.RegularExpressions;

namespace FusedAttention.Architecture.Tests;

/// <summary>
/// Which rooms may name which: lines "room -> room, room". A room may name those behind its arrow and all that they may name, so the table holds the shortest form of the law, and must have no circle.
/// </summary>
internal sealed partial class ArrowTable
{
    private readonly Dictionary<string, string[]> _direct = new(StringComparer.Ordinal);
    private readonly Dictionary<string, HashSet<string>> _below = new(StringComparer.Ordinal);

    public ArrowTable(string lines)
    {
        foreach (string text in lines.Split('\n').Where(text => text.Trim().Length > 0))
        {
            Match line = Line().Match(text);
            if (!line.Success) throw new FormatException($"The table has a line that is no room: {text}");
            string[] rooms = line.Groups["to"].Value.Split(',', StringSplitOptions.TrimEntries | StringSplitOptions.RemoveEmptyEntries);
            if (!_direct.TryAdd(line.Groups["from"].Value, rooms)) throw new FormatException($"The table has {line.Groups["from"].Value} twice.");
        }

        foreach (string room in _direct.Keys) Below(room, []);
    }

    public IReadOnlyCollection<string> Rooms => _direct.Keys;

    /// <summary>The table in the first block of a page that is fenced as <c>rooms</c>.</summary>
    public static ArrowTable OfPage(string path)
    {
        Match block = Block().Match(File.ReadAllText(path).ReplaceLineEndings("\n"));
        return block.Success ? new(block.Groups["lines"].Value) : throw new FormatException($"{path} has no block ```rooms.");
    }

    public bool Allows(string from, string to) => _below.TryGetValue(from, out HashSet<string>? below) && below.Contains(to);

    private HashSet<string> Below(string room, string[] above)
    {
        if (above.Contains(room, StringComparer.Ordinal)) throw new FormatException($"The table has a circle: {string.Join(" -> ", above)} -> {room}.");
        if (_below.TryGetValue(room, out HashSet<string>? known)) return known;
        if (!_direct.TryGetValue(room, out string[]? direct)) throw new FormatException($"The table has an arrow to {room}, but no line for it.");
        var below = new HashSet<string>(direct, StringComparer.Ordinal);
        foreach (string next in direct) below.UnionWith(Below(next, [.. above, room]));
        return _below[room] = below;
    }

    [GeneratedRegex(@"^```rooms\n(?<lines>.*?)^```", RegexOptions.Multiline | RegexOptions.Singleline | RegexOptions.ExplicitCapture, matchTimeoutMilliseconds: 5000)]
    private static partial Regex Block();

    [GeneratedRegex(@"^(?<from>[\w./]+)( +->(?<to>[\w./, ]*))?$", RegexOptions.ExplicitCapture, matchTimeoutMilliseconds: 5000)]
    private static partial Regex Line();
}
